"""Baseline: a bare ASGI application that sends back the bytes it got. `python -m benchmarks.serving.echo_asgi PORT`"""

from __future__ import annotations

import sys

from benchmarks.serving.bare_asgi import serve


async def echo(body: bytes) -> bytes:
    """The same."""
    return body


if __name__ == "__main__":
    serve(echo, int(sys.argv[1]))

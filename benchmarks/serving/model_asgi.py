"""Baseline: a bare ASGI application that runs the model on what waits, one batch a turn of the event loop.

No protocol, no checks, no deadlines, no figures: what HTTP, the event loop and the engine leave to a server.
`python -m benchmarks.serving.model_asgi MODEL PORT` takes the raw bytes of one row and sends back those of its outputs.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.serving.bare_asgi import serve
from runtime.tensors import Array


class Batches:
    """Rows that wait for the next turn of the loop, when all of them run at once."""

    def __init__(self, session: Any) -> None:
        self._session = session
        (node,) = session.get_inputs()
        self._name, self._shape = node.name, (-1, *node.shape[1:])
        self._waiting: list[tuple[bytes, asyncio.Future[Array]]] = []

    def ask(self, row: bytes) -> asyncio.Future[Array]:
        """The outputs of one row, later."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._run)
        asked: asyncio.Future[Array] = loop.create_future()
        self._waiting.append((row, asked))
        return asked

    def _run(self) -> None:
        batch, self._waiting = self._waiting, []
        rows = np.frombuffer(b"".join([row for row, _ in batch]), np.float32).reshape(self._shape)
        outputs = self._session.run(None, {self._name: rows})[0]
        for (_, asked), output in zip(batch, outputs, strict=True):
            if not asked.cancelled():
                asked.set_result(output)


def main(model: str, port: int) -> None:
    """Serves until it is stopped."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batches = Batches(session)

    async def respond(row: bytes) -> bytes:
        return (await batches.ask(row)).tobytes()

    serve(respond, port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

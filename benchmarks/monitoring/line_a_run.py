"""A program that prints a line a run, run to its end: what it had told counts also where it fails or takes too long."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from benchmarks.serving.reasons import publishable, reason_in


def lines_of(command: Sequence[str], timeout_s: float) -> tuple[list[str], str | None]:
    """The whole lines that it printed, and why there may be no more of them; None where it ended well."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as late:
        return _whole(late.stdout), f"stopped after {timeout_s:g} s, with what it had told by then"
    except OSError as error:
        return [], f"could not be started: {publishable(str(error))}"
    why = None if done.returncode == 0 else f"failed: {reason_in(done.stderr.decode(errors='replace'))}"
    return _whole(done.stdout), why


def _whole(printed: bytes | None) -> list[str]:
    return [line.decode() for line in (printed or b"").split(b"\n")[:-1]]

"""A failure drill: while a file exists every local run fails, or stalls, so that people can practise the fallback.

A file that says `stall 0.5` makes every local run begin half a second late; any other text is the error's.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from runtime.errors import ExecutionError
from runtime.serving.asking import Answer, Ask, Withdraw
from runtime.wire.values import InferenceRequest

STALL: Final = "stall "
# The text goes into every reply's reason: a sentence, not a file that somebody named by mistake.
MAX_TEXT_BYTES: Final = 200


class Drill:
    """Off until asked for; costs one failed `open` per local run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def check(self) -> float:
        """Seconds that a local run has to wait, 0 without a file; `ExecutionError` with the file's text unless it says stall."""
        try:
            with self.file.open("rb") as opened:
                text = opened.read(MAX_TEXT_BYTES).decode(errors="replace").strip()
        except FileNotFoundError:
            return 0.0
        except OSError as error:
            raise ExecutionError(
                f"drill: {self.file} is there but cannot be read ({error.strerror}); remove it to end the drill"
            ) from error
        if text.startswith(STALL):
            try:
                return max(float(text.removeprefix(STALL)), 0.0)
            except ValueError:
                pass  # then it is a text like any other
        raise ExecutionError(f"drill: {text or f'{self.file} exists; remove it to end the drill'}")


def stalled(ask: Ask, seconds: float) -> Ask:
    """`ask`, begun so much later, or at the request's deadline, of which it then says that it has passed."""

    def late(request: InferenceRequest, answer: Answer) -> Withdraw:
        withdraw: Withdraw | None = None

        def begin() -> None:
            nonlocal withdraw
            try:
                withdraw = ask(request, answer)
            except Exception as error:
                answer(None, error)

        left_s = seconds if request.deadline is None else max(request.deadline - time.monotonic(), 0.0)
        waiting = asyncio.get_running_loop().call_later(min(seconds, left_s), begin)

        def let_go() -> None:
            waiting.cancel()
            if withdraw is not None:
                withdraw()

        return let_go

    return late

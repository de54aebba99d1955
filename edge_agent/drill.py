"""A failure drill: while a file exists every local run fails, so that people can practise the fallback."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from runtime.errors import ExecutionError

# The text goes into every reply's reason: a sentence, not a file that somebody named by mistake.
MAX_TEXT_BYTES: Final = 200


class Drill:
    """Off until asked for; costs one failed `open` per local run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def check(self) -> None:
        """`ExecutionError` with the file's text while the file exists."""
        try:
            with self.file.open("rb") as opened:
                text = opened.read(MAX_TEXT_BYTES).decode(errors="replace").strip()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ExecutionError(
                f"drill: {self.file} is there but cannot be read ({error.strerror}); remove it to end the drill"
            ) from error
        raise ExecutionError(f"drill: {text or f'{self.file} exists; remove it to end the drill'}")

"""A progress bar with the time that remains, for people who wait longer than a moment; in a log a line for each step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Shorter work needs no bar (a person waits two seconds without wondering).
BAR_AFTER_S = 2.0


class Teller:
    """Moves a bar, once work has gone on for two seconds; where nobody watches, says each step once, by its own line."""

    def __init__(self, expected_s: float) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from runtime.cli.console import people

        console = people()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._said = ""
        self._task = self._progress.add_task("measuring", total=1.0)
        self._after = time.monotonic() + (0.0 if expected_s > BAR_AFTER_S else BAR_AFTER_S)
        self._is_shown = False

    def __call__(self, what: str, share: float) -> None:
        """Says what is done now, and the share of all that is done."""
        is_time = time.monotonic() >= self._after
        if not self._console.is_terminal:
            if is_time and what != self._said:
                self._console.print(f"{what} ({share:.0%})", markup=False, soft_wrap=True)
                self._said = what
            return
        if not self._is_shown and is_time:
            self._progress.start()
            self._is_shown = True
        self._progress.update(self._task, description=what, completed=share)

    def close(self) -> None:
        """Takes the bar away."""
        if self._is_shown:
            self._progress.stop()


@contextmanager
def bar(expected_s: float) -> Iterator[Teller]:
    """Shown from the start where the work is expected to take longer than `BAR_AFTER_S`."""
    teller = Teller(expected_s)
    try:
        yield teller
    finally:
        teller.close()

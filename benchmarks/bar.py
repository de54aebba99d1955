"""A progress bar with the time that remains, for people who wait longer than a moment; in a log a line for each step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

# Shorter work needs no bar (a person waits two seconds without wondering).
BAR_AFTER_S = 2.0
# How often a loop is told of at most: each time is a line in a log, and a moment of the process that measures.
_TOLD = 20

Step = TypeVar("Step")


class Teller:
    """Moves a bar, once work has gone on for two seconds; where nobody watches, says each step once, by its own line."""

    def __init__(self, expected_s: float, *, is_still: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        from runtime.cli.console import people

        console = people()
        self._progress = Progress(
            # What is done gives way, and the time does not, where a terminal is narrow.
            TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:3.0f} %", table_column=Column(no_wrap=True, min_width=5)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            console=console,
            expand=True,
            transient=True,
            auto_refresh=not is_still,
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
        self._progress.update(
            self._task, description=what, completed=share, refresh=not self._progress.live.auto_refresh
        )

    def close(self) -> None:
        """Takes the bar away."""
        if self._is_shown:
            self._progress.stop()


@contextmanager
def bar(expected_s: float, *, is_still: bool = False) -> Iterator[Teller]:
    """Shown from the start where the work is expected to take longer than `BAR_AFTER_S`.

    With `is_still` it is drawn when it is told and only then, without a thread.
    """
    teller = Teller(expected_s, is_still=is_still)
    try:
        yield teller
    finally:
        teller.close()


def counted(steps: Sequence[Step], what: str) -> Iterator[Step]:
    """The steps one after the other, each a `what`, with a bar of how many are done that draws nothing during a step."""
    every = max(1, -(-len(steps) // _TOLD))
    with bar(BAR_AFTER_S, is_still=True) as tell:
        for number, step in enumerate(steps):
            if number % every == 0:
                tell(f"{what} {number + 1} of {len(steps)}", number / len(steps))
            yield step

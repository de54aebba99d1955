"""The figures of recordings on a terminal: tables as wide as it is, what they are of, and what to doubt."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.columns import meaning
from benchmarks.notes import notes_of
from benchmarks.row import row_of
from benchmarks.samples import Recording
from benchmarks.table import tables_of
from runtime.cli.console import people, standard


def show_failures(failed: Sequence[str]) -> None:
    """What could not be measured, on standard error."""
    for sentence in failed:
        people().print(f"not measured: {sentence}", style="red", markup=False, soft_wrap=True)


def show_figures(recordings: Sequence[Recording], slo_ms: float | None) -> None:
    """Tables on standard output, doubts on standard error; nothing where nothing was measured."""
    if not recordings:
        return
    rows = [row_of(recording, slo_ms) for recording in recordings]
    environment = recordings[0].header["environment"]
    console = standard()
    for table in tables_of(rows, console.width):
        console.print(table, "")
    console.print(
        f"{environment['cpu'] or 'processor unknown'}, kernel {environment['kernel']}, Python {environment['python']}; "
        f"{meaning(rows)}",
        markup=False,
    )
    for note in notes_of(rows):
        people().print(note, style="yellow", markup=False)

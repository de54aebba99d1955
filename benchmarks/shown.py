"""What was measured, found or compared on a terminal: tables as wide as it is, what they are of, and what to doubt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.columns import meaning
from benchmarks.notes import notes_of
from benchmarks.row import row_of
from benchmarks.samples import Recording
from benchmarks.significance import LEAST_BLOCKS
from benchmarks.statistics import percentile_name
from benchmarks.table import comparison_table, found_table, tables_of
from runtime.cli.console import people, standard

if TYPE_CHECKING:
    from benchmarks.comparison import Compared
    from benchmarks.find_max import Searches


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


def show_searches(done: Searches, folder: Path) -> None:
    """Of every search the highest rate, and why it is that; on standard output."""
    standard().print(found_table([search.to_dict() for search in done.searches], str(done.slo)))
    for search in done.searches:
        standard().print(str(search), markup=False)
    standard().print(f"raw samples: {folder}", markup=False, soft_wrap=True)


def show_floors(compared: Compared) -> None:
    """What a change must be to show, of each quantile."""
    for comparison in compared.comparisons:
        least = comparison.smallest_visible
        of = (
            f"fewer than {LEAST_BLOCKS} rounds show no change"
            if least is None
            else f"changes below {least:.1%} do not show here"
        )
        standard().print(f"{percentile_name(comparison.share)}: {of}", markup=False)


def show_compared(compared: Compared, wanted: int, folder: Path | None, *, as_json: bool) -> None:
    """Verdicts and their reasons on standard output; notes, and of how many rounds they are, on standard error."""
    for note in compared.notes:
        people().print(note, style="yellow", markup=False)
    if as_json:
        print(json.dumps(compared.to_dict(), indent=2, ensure_ascii=False))
    elif compared.comparisons:
        standard().print(comparison_table(compared.comparisons))
        for c in compared.comparisons:
            standard().print(
                f"{c.judgement.verdict}: {c.what}, {percentile_name(c.share)}: {c.judgement.reason}", markup=False
            )
        if folder is not None:
            standard().print(f"raw samples: {folder}", markup=False, soft_wrap=True)
    if compared.was_stopped:
        of = f"after {compared.rounds} of {wanted} rounds; the verdict is of these"
        none = f"in round 1 of {wanted}; there is no verdict yet, which takes a whole round (A/B/B/A)"
        people().print(f"stopped {of if compared.rounds else none}", style="yellow", markup=False)
    elif compared.failed is not None:
        people().print(
            f"ended in round {(compared.rounds or 0) + 1} of {wanted}; the verdict is of those before: {compared.failed}",
            style="red",
            markup=False,
        )

"""A fitted cascade for people: coverage against accuracy, threshold by threshold."""

from __future__ import annotations

from rich.table import Table

from runtime.confidence.selective import Cascade


def show_cascade(cascade: Cascade) -> Table:
    """One line a threshold, the chosen one marked."""
    table = Table("confidence from", "answers", "right of those", "wrong at most", "", box=None, pad_edge=False)
    for point in cascade.points:
        is_chosen = point.threshold == cascade.threshold
        table.add_row(
            f"{point.threshold:g}",
            f"{point.coverage:.1%}",
            "-" if point.accuracy is None else f"{point.accuracy:.2%}",
            f"{point.risk_bound:.2%}",
            "chosen" if is_chosen else "",
            style="bold" if is_chosen else None,
        )
    return table


def show_fit(cascade: Cascade) -> str:
    """What the table rests on, as a line before it."""
    return (
        f"cascade: temperature {cascade.temperature:.3f}, wished-for risk {cascade.risk:.2%}, "
        f"certainty {1 - cascade.delta:.0%}, {cascade.points[-1].rows} rows to test on"
    )

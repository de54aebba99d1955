"""A `Choice` as people read it: candidate by candidate with numbers and verdict, and what a batch costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from runtime.selection.choice import Choice, Ranked
from runtime.selection.cost import CostModel
from runtime.selection.goal import AskedBy, Wish
from runtime.selection.latency import MIN_TURNS, show_ms

CHOSEN = "▶"
# The figures alone take 70 to 75 columns: what is left of 80 would break sentences at every word.
WIDTH_FOR_SENTENCES: Final = 110
LEAST_NAME: Final = 11
"""Columns of a variant's name, where it has so many: `fp32.tflite` in one line, with 15 left of 80 for options and verdict."""
_RATIO: Final = re.compile(r"(\d[\d.,]* ×) the chosen one(?: \(in its (trial)\)|'s (processor) time)?")
"""All that a verdict says that a narrow column can hold."""


def show_choice(choice: Choice, *, with_rejected: bool = True) -> RenderableType:
    """Heading, candidates with their verdicts, pairs that cannot run, cost of batches, warnings."""
    parts: list[RenderableType] = [_heading(choice), _Candidates(choice)]
    if with_rejected and choice.rejected:
        parts.append(_rejected(choice))
    parts.append(show_cost(choice.selected.cost))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in (*choice.warnings, *choice.doubts)]
    return Group(*parts)


def show_goal(wishes: Sequence[Wish]) -> Table:
    """What was asked for, and by whom; what nobody asked for is left out, but for what decides in the end."""
    table = Table(box=None, pad_edge=False)
    for name in ("asked for", "", "by"):
        table.add_column(name)
    for wish in wishes:
        is_default = wish.asked_by is AskedBy.DEFAULT
        if not is_default or wish is wishes[-1]:
            table.add_row(wish.what, wish.value, wish.asked_by.value, style="dim" if is_default else None)
    return table


def show_cost(cost: CostModel) -> Table:
    """What the chosen one was measured to take by rows of a call; the batch with the most rows a second marked."""
    table = Table(box=None, pad_edge=False)
    table.add_column("rows a call")
    table.add_column("ms a call", justify="right")
    table.add_column("rows/s", justify="right")
    best = cost.best_batch()
    for rows, ms in cost.points:
        is_best = rows == best
        table.add_row(
            str(rows), show_ms(ms).removesuffix(" ms"), f"{rows / ms * 1000:,.0f}", style="green" if is_best else None
        )
    return table


def _heading(choice: Choice) -> Text:
    how = (
        "from the cache (--force measures again)"
        if choice.from_cache
        else f"calibrated in {choice.calibration_s:.1f} s (trials {choice.trial_s:.1f} s, measuring {choice.measuring_s:.1f} s; "
        f"engines loaded in {choice.loading_s:.1f} s)"
    )
    text = Text()
    text.append(f"{choice.bundle} version {choice.version}", style="bold")
    text.append(f": {len(choice.ranked)} candidates for the best {choice.objective.value}, {how}; {choice.guard}")
    return text


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The table of candidates; on a narrow terminal sentences stand below it."""

    choice: Choice

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= WIDTH_FOR_SENTENCES:
            yield _candidates(self.choice, [_why(ranked) for ranked in self.choice.ranked])
            return
        yield _candidates(self.choice, [_in_short(self.choice, ranked) for ranked in self.choice.ranked])
        below: dict[str, list[str]] = {}
        for ranked in self.choice.ranked:
            if not _RATIO.fullmatch(_why(ranked)):
                below.setdefault(_why(ranked), []).append(str(ranked.candidate))
        yield from (Text(f"{'; '.join(names)}: {why}") for why, names in below.items())


def _candidates(choice: Choice, last: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", width=1)
    names = [ranked.candidate.variant.name for ranked in choice.ranked]
    table.add_column("variant", overflow="fold", min_width=min(LEAST_NAME, max(map(len, names))))
    table.add_column("backend", no_wrap=True)
    table.add_column("options", overflow="fold")
    for name in ("p50", "spread", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for ranked, why in zip(choice.ranked, last, strict=True):
        candidate = ranked.candidate
        is_chosen = ranked is choice.selected
        table.add_row(
            CHOSEN if is_chosen else "",
            candidate.variant.name,
            candidate.backend.name,
            str(candidate.options),
            str(ranked.latency),
            f"±{ranked.latency.spread / 2:.0%}" if ranked.latency.turns >= MIN_TURNS else "–",
            "–" if ranked.accuracy is None else f"{ranked.accuracy:.2%}",
            Text(why),
            style="bold green" if is_chosen else None,
        )
    return table


def _in_short(choice: Choice, ranked: Ranked) -> str:
    """What of the verdict goes into a narrow column; the sentence stands below."""
    ratio = _RATIO.fullmatch(_why(ranked))
    if ratio is None:
        return "chosen" if ranked is choice.selected else "below"
    of = ratio[2] or ratio[3]
    return f"{ratio[1]} ({of})" if of else ratio[1]


def _why(ranked: Ranked) -> str:
    """The verdict without what stands in the columns before it: name and p50."""
    return ranked.verdict.removeprefix(f"{ranked.candidate}: ").removeprefix(f"{ranked.latency}, ")


def _rejected(choice: Choice) -> Group:
    """One line a reason, with the backends and variants it holds for; one for all that read no variant's format at all."""
    all_of_them = {*(ranked.candidate.variant.name for ranked in choice.ranked), *(r.variant for r in choice.rejected)}
    variants: dict[tuple[str, str], dict[str, None]] = {}
    strangers: dict[str, dict[str, None]] = {}
    readers = {ranked.candidate.backend.name for ranked in choice.ranked}
    readers |= {rejected.backend for rejected in choice.rejected if not rejected.is_misfit}
    for rejected in choice.rejected:
        if rejected.is_misfit:
            if rejected.backend not in readers:
                strangers.setdefault(rejected.reason.partition(", not ")[0], {})[rejected.backend] = None
            continue
        backend = f"{rejected.backend}, {rejected.options}" if rejected.options else rejected.backend
        variants.setdefault((backend, rejected.reason), {})[rejected.variant] = None
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (backend, reason), names in variants.items():
        alike.setdefault((reason, tuple(names)), []).append(backend)
    lines = [
        f"{'; '.join(backends)}: {reason}" + ("" if set(names) == all_of_them else f" ({', '.join(names)})")
        for (reason, names), backends in alike.items()
    ]
    if strangers:
        said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in strangers.items())
        lines.append(f"no variant for {said}")
    return Group(Text("Not used", style="bold"), *(Text(f"  {line}", style="dim") for line in lines))

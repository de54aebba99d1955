"""The bars that releases must reach, and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from benchmarks.releases.latencies import S6_REQUESTS
from benchmarks.releases.outcomes import Row
from benchmarks.releases.shares import S1_REQUESTS, S2_REQUESTS, S3_REQUESTS, S4_CASES
from benchmarks.releases.watches import LABELLED_REQUESTS

TITLES = {
    "S1": "S1: no difference. Rolled back = wrong; requests of each arm",
    "S2": "S2: the candidate fails more often. Requests of the candidate until rollback",
    "S3": "S3: paired shadow, discordant pairs. Cases until rollback",
    "S4": "S4: non-inferiority, margin 2 %, 10 % disagreement. Cases until promotion",
    "S5": "S5: late and partial labels. Requests until rollback",
    "S6": "S6: p99 latency 20 % higher. Requests of the candidate until rollback",
    "S8": "S8: 500 devices in waves of 1, 5, 25 and 100 %, 1 % tolerated. Devices that had the version at the stop",
}
HORIZONS = {
    "S1": f"A run ends after {S1_REQUESTS:,} requests of each arm, through GuardWatch after 2,000 of the candidate.",
    "S2": f"A run ends after {S2_REQUESTS:,} requests of each arm, through GuardWatch after 4,000 or (three guards) 2,000 of the "
    "candidate.",
    "S3": f"A run ends after {S3_REQUESTS:,} cases.",
    "S4": f"A run ends after {S4_CASES:,} cases.",
    "S5": f"A run ends after {S3_REQUESTS:,} labels, through GuardWatch after {LABELLED_REQUESTS:,} requests.",
    "S6": f"A run ends after {S6_REQUESTS:,} requests of each arm.",
}
"""How far "ever" was looked at. The tests promise their alpha over any number of requests; the window rules promise nothing."""
HEADS = {
    "excess_bad": "excess bad predictions",
    "harmed": "devices harmed, mean",
    "harmed_p95": "p95",
    "promoted": "promoted",
}
"""Of what a row has beside its rate and median."""
OURS = "Edgeward"
MOST_WRONG = 0.05
MOST_TIMES_FLOOR = 2.0
MOST_HARMED = 0.5
"""Of the devices that a version for all at once harms."""
HEALTHY = ("0.5% failing", "1.0% failing")
"""Cases of S8 that are tolerated."""


class Held(StrEnum):
    """What the runs say of a bar."""

    HELD = "held"
    MISSED = "missed"
    NOT_SHOWN = "not shown"
    """The interval reaches over both sides of it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar and what was reached."""

    text: str
    held: Held
    runs: int

    def __str__(self) -> str:
        verdict = {
            Held.HELD: "held",
            Held.MISSED: "**missed**",
            Held.NOT_SHOWN: f"**not shown with {self.runs:,} runs**",
        }
        return f"{verdict[self.held]}: {self.text}"


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Every bar with the figure that was reached. A scenario that was not run has none.

    A rate holds its bar where the upper end of its interval does, and misses it where the lower end is over it; a median likewise
    by its own interval.
    """
    ours = [one for one in rows if one.rule.startswith(OURS)]
    told = []
    for scenario in ("S1", "S3", "S5", "S6"):
        wrong = [one for one in ours if one.scenario == scenario and one.floor is None]
        if wrong:
            told.append(
                _most(max(wrong, key=lambda one: one.interval[1]), "P(ever rolled back) without a difference, worst")
            )
    told += [
        _most(one, "promoted although worse by the margin")
        for one in ours
        if one.scenario == "S4" and one.floor is None
    ]
    fleets = [one for one in ours if one.scenario == "S8"]
    told += [_most(one, "false stops") for one in fleets if one.case in HEALTHY]
    told += [_harmed(one) for one in fleets if one.case not in HEALTHY]
    for scenario in ("S2", "S3", "S4", "S5", "S6"):
        held = [one for one in ours if one.scenario == scenario and one.floor is not None]
        if held:
            told.append(_soon(max(held, key=lambda one: one.ratio_up_to or float("inf"))))
    return told


def _most(one: Row, what: str) -> Bar:
    low, high = one.interval
    text = f"{one.scenario}: {what}: {one.decided:.2%} ({low:.2%} to {high:.2%}; {one.case}, {one.rule}), at most {MOST_WRONG:.0%}"
    held = Held.HELD if high <= MOST_WRONG else Held.MISSED if low > MOST_WRONG else Held.NOT_SHOWN
    return Bar(text, held, one.runs)


def _harmed(one: Row) -> Bar:
    """Held by the mean and two standard errors of it."""
    mean, error, most = one.extra["harmed"], one.extra["harmed_error"], MOST_HARMED * one.extra["harmed_all"]
    text = (
        f"S8: devices harmed, {one.case}: {mean:.1f} ± {2 * error:.1f} of 500 on average, at most half of the "
        f"{one.extra['harmed_all']:.0f} that a version for all devices at once harms"
    )
    held = Held.HELD if mean + 2 * error <= most else Held.MISSED if mean - 2 * error > most else Held.NOT_SHOWN
    return Bar(text, held, one.runs)


def _soon(one: Row) -> Bar:
    ratio, up_to = ("never" if value is None else f"{value:.2f} ×" for value in (one.ratio, one.ratio_up_to))
    text = (
        f"{one.scenario}: median to the decision, worst: {ratio} the floor (up to {up_to}; {one.case}, {one.rule}), "
        f"at most {MOST_TIMES_FLOOR:g}"
    )
    if one.ratio_up_to is not None and one.ratio_up_to <= MOST_TIMES_FLOOR:
        return Bar(text, Held.HELD, one.runs)
    is_missed = one.ratio is None or one.ratio > MOST_TIMES_FLOOR
    return Bar(text, Held.MISSED if is_missed else Held.NOT_SHOWN, one.runs)


def markdown(rows: Sequence[Row], environment: dict[str, Any], started: str, seed: int) -> str:
    """The tables with where they come from."""
    lines = [
        "# Releases: who decides rightly, and how soon",
        "",
        f"{started}, commit {environment['commit']}, seed {seed}; simulations, so nothing depends on the machine. "
        "`python -m benchmarks.releases` makes this page.",
        "",
        "Every rule sees the same simulated requests and looks at every batch of 50 (Edgeward: after every request). Alpha 5 %. "
        "Edgeward: the guards' test for all runs at once, with arms that get a request in turn; a test says that it decides as "
        "the code does. GuardWatch: that code itself, with a random split, in fewer runs, as it takes one request after another. "
        "Floor: what a test needs on average that knows both arms' distributions (S4: 1,546, as required of it; "
        "S6: of the share of requests over stable's p99). Flagger and Argo come first with their documented thresholds, then "
        "with one that fits the base rate; with labels (S3 to S5) they look at the share of a window's cases where the candidate "
        "alone is wrong, which neither offers. Rates have exact 95 % intervals (Clopper and Pearson), and so have medians (order "
        "statistics): a bar is held where the whole interval is within it. A z-test that is looked at all the time decides "
        "soonest, also where nothing is wrong.",
        "",
    ]
    for scenario in TITLES:
        own = [one for one in rows if one.scenario == scenario]
        if own:
            horizon = [HORIZONS[scenario], ""] if scenario in HORIZONS else []
            lines += ["", f"## {TITLES[scenario]}", "", *horizon, *_table(own)]
    lines += ["", "## Bars", "", *(f"- {bar}" for bar in bars(rows))]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    names = sorted({name for one in rows for name in one.extra} & set(HEADS))
    did = "promoted" if rows[0].scenario == "S4" else "stopped" if rows[0].scenario == "S8" else "rolled back"
    has_floor = any(one.floor is not None for one in rows)
    head = [
        "case",
        "rule",
        did,
        "95 % interval",
        "median",
        *(["floor", "ratio"] if has_floor else []),
        *(HEADS[name] for name in names),
        "runs",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for one in rows:
        interval = f"{one.interval[0]:.2%} to {one.interval[1]:.2%}"
        cells = [one.case, one.rule, f"{one.decided:.2%}", interval, _number(one.median)]
        if has_floor:
            cells += [_number(one.floor), "–" if one.ratio is None else f"{one.ratio:.2f}"]
        for name in names:
            value = one.extra.get(name)
            cells.append("–" if value is None else f"{value:.1%}" if name == "promoted" else f"{value:.1f}")
        lines.append("| " + " | ".join([*cells, f"{one.runs:,}"]) + " |")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"

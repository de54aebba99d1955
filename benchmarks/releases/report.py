"""The bars that releases must reach, and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.releases.outcomes import Row

TITLES = {
    "S1": "S1: no difference. Rolled back = wrong; requests of each arm",
    "S2": "S2: the candidate fails more often. Requests of the candidate until rollback",
    "S3": "S3: paired shadow, discordant pairs. Cases until rollback",
    "S4": "S4: non-inferiority, margin 2 %, 10 % disagreement. Cases until promotion",
    "S5": "S5: late and partial labels. Requests until rollback",
    "S6": "S6: p99 latency 20 % higher. Requests of the candidate until rollback",
    "S8": "S8: 500 devices in waves of 1, 5, 25 and 100 %, 1 % tolerated. Devices that had the version at the stop",
}
OURS = "Edgeward"
MOST_WRONG = 0.05
MOST_TIMES_FLOOR = 2.0


def bars(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """Every bar with the figure that was reached, and whether it is held. A scenario that was not run has none."""
    ours = [one for one in rows if one.rule.startswith(OURS)]
    told = []
    for scenario, what in (
        ("S1", "P(ever rolled back) without a difference"),
        ("S3", "the same"),
        ("S5", "the same"),
        ("S6", "the same"),
    ):
        wrong = [one for one in ours if one.scenario == scenario and one.floor is None]
        if wrong:
            worst = max(wrong, key=lambda one: one.decided)
            text = f"{scenario}: {what}, worst: {worst.decided:.2%} ({worst.case}), at most {MOST_WRONG:.0%}"
            told.append((text, worst.decided <= MOST_WRONG))
    promoted = [one for one in ours if one.scenario == "S4" and one.floor is None]
    told += [
        (
            f"S4: promoted although worse by the margin: {one.decided:.2%}, at most {MOST_WRONG:.0%}",
            one.decided <= MOST_WRONG,
        )
        for one in promoted
    ]
    stopped = [one for one in ours if one.scenario == "S8" and one.case.startswith(("0.5%", "1.0%"))]
    told += [
        (f"S8: false stops, {one.case}: {one.decided:.2%}, at most {MOST_WRONG:.0%}", one.decided <= MOST_WRONG)
        for one in stopped
    ]
    for scenario in ("S2", "S3", "S4", "S5", "S6"):
        held = [one for one in ours if one.scenario == scenario and one.floor is not None]
        if held:
            worst = max(held, key=lambda one: float("inf") if one.ratio is None else one.ratio)
            ratio = "never" if worst.ratio is None else f"{worst.ratio:.2f} ×"
            which = f"{worst.case}, {worst.rule}"
            text = (
                f"{scenario}: median to the decision, worst: {ratio} the floor ({which}), at most {MOST_TIMES_FLOOR:g}"
            )
            told.append((text, worst.ratio is not None and worst.ratio <= MOST_TIMES_FLOOR))
    return told


def markdown(rows: Sequence[Row], environment: dict[str, Any], started: str, seed: int) -> str:
    """The tables with where they come from."""
    lines = [
        "# Releases: who decides rightly, and how soon",
        "",
        f"{started}, commit {environment['commit']}, seed {seed}; simulations, so nothing depends on the machine. "
        "`python -m benchmarks.releases` makes this page.",
        "",
        "Every rule sees the same simulated requests and looks at every batch of 50 (Edgeward: after every request). Alpha 5 %. "
        "Edgeward: the guards' test, with arms that get a request in turn. GuardWatch: the whole code, with a random split. "
        "Floor: what a test needs on average that knows both arms' distributions (S4: 1,546, as required of it; "
        "S6: of the share of requests over stable's p99). Flagger and Argo come first with their documented thresholds, then "
        "with one that fits the base rate. A z-test that is looked at all the time decides soonest, also where nothing is wrong.",
        "",
    ]
    for scenario in TITLES:
        own = [one for one in rows if one.scenario == scenario]
        if own:
            lines += ["", f"## {TITLES[scenario]}", "", *_table(own)]
    lines += ["", "## Bars", "", *(f"- {'held' if is_held else '**missed**'}: {text}" for text, is_held in bars(rows))]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    names = sorted({name for one in rows for name in one.extra})
    did = "promoted" if rows[0].scenario == "S4" else "stopped" if rows[0].scenario == "S8" else "rolled back"
    heads = {"excess_bad": "excess bad predictions", "harmed": "devices harmed, mean", "harmed_p95": "p95"}
    has_floor = any(one.floor is not None for one in rows)
    head = [
        "case",
        "rule",
        did,
        "median",
        *(["floor", "ratio"] if has_floor else []),
        *(heads.get(name, name) for name in names),
        "runs",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for one in rows:
        cells = [one.case, one.rule, f"{one.decided:.2%}", _number(one.median)]
        if has_floor:
            cells += [_number(one.floor), "–" if one.ratio is None else f"{one.ratio:.2f}"]
        for name in names:
            value = one.extra.get(name)
            cells.append("–" if value is None else f"{value:.1%}" if name == "promoted" else f"{value:.1f}")
        lines.append("| " + " | ".join([*cells, f"{one.runs:,}"]) + " |")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"

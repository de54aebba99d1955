"""Ours against each other server: ratios of medians with the spread of the rounds, and the bars that ours has to clear. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from benchmarks.serving.contestants import (
    ASGI_ECHO,
    ASGI_MODEL,
    GRPC,
    GRPC_ECHO,
    GRPCIO,
    NATIVE,
    REST,
    calibrated_name,
    two_workers_name,
)
from benchmarks.serving.rounds import RAW, Outcome, Sample

OURS = (NATIVE, GRPC, REST)
ALL_OF_OURS = frozenset(named(each) for each in (*OURS, GRPCIO) for named in (str, calibrated_name, two_workers_name))
BASELINES = (GRPC_ECHO, ASGI_ECHO, ASGI_MODEL, RAW)


@dataclass(frozen=True, slots=True)
class Bar:
    """`ours` answers at least `factor` times as many requests a second as `other`, on each of `connections`."""

    ours: str
    other: str
    factor: float
    connections: tuple[int, ...] = (1, 8, 32)


BARS: Sequence[Bar] = (
    Bar(GRPC, "mlserver", 2.0),
    Bar(GRPC, "kserve", 1.2),
    Bar(GRPC, GRPC_ECHO, 0.75),
    Bar(REST, "mlserver", 4.0),
    Bar(REST, RAW, 0.35),
    Bar(NATIVE, "mlserver", 6.0, (8, 32)),
)
# The same where ours serves what it chose for this machine. Raw rows are of the file that everybody serves, and no measure of that.
BARS_AS_CALIBRATED: Sequence[Bar] = tuple(
    replace(bar, ours=calibrated_name(bar.ours)) for bar in BARS if bar.other != RAW
)

# The same where two processes of ours share the ports, each of the others being one.
BARS_OF_TWO_WORKERS: Sequence[Bar] = tuple(
    replace(bar, ours=two_workers_name(bar.ours)) for bar in BARS if bar.other != RAW
)

# How far REST can get at all: its bars, of what only takes rows from HTTP and runs the model on them.
BARS_OF_A_BARE_SERVER: Sequence[Bar] = tuple(replace(bar, ours=ASGI_MODEL) for bar in BARS if bar.ours == REST)

IDENTITY_BARS: Sequence[Bar] = (
    Bar(GRPC, "mlserver", 1.5, (1, 8)),
    Bar(NATIVE, "mlserver", 1.5, (1, 8)),
    Bar(REST, "mlserver", 1.5, (1, 8)),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Requests a second of ours by the other's, on one number of connections, over the rounds that both were measured in."""

    ours: str
    other: str
    connections: int
    value: float
    """Of the medians."""
    lowest: float
    """Of the rounds; so `highest`."""
    highest: float
    cpu_ratio: float | None
    """How many times the other's CPU time a request is ours: on a machine that others use too it says more than rates."""

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        found = dataclasses.asdict(self)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}

    def __str__(self) -> str:
        cpu = "" if self.cpu_ratio is None else f"; CPU {self.cpu_ratio:.2f}"
        return f"{self.value:.2f} ({self.lowest:.2f} to {self.highest:.2f}{cpu})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar, and what came about."""

    bar: Bar
    ratio: Ratio

    @property
    def is_cleared(self) -> bool:
        """Whether the ratio of medians is at or above the bar."""
        return self.ratio.value >= self.bar.factor

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        return {**self.ratio.to_dict(), "factor": self.bar.factor, "is_cleared": self.is_cleared}


def samples_of(outcome: Outcome, name: str, connections: int) -> list[Sample]:
    """The samples of one contestant; raw rows a second are the same for any number of connections."""
    return [
        sample
        for sample in outcome.samples
        if sample.contestant == name and (sample.connections == connections or name == RAW)
    ]


def ratio_of(outcome: Outcome, ours: str, other: str, connections: int) -> Ratio | None:
    """None where they have no round in common."""
    mine, theirs = (
        {sample.round: sample for sample in samples_of(outcome, name, connections)} for name in (ours, other)
    )
    pairs = [(mine[number], theirs[number]) for number in mine if number in theirs]
    if not pairs:
        return None
    each = [one.per_s / two.per_s for one, two in pairs]
    value = median(one.per_s for one, _ in pairs) / median(two.per_s for _, two in pairs)
    cpus = [(one.cpu_s_per_1000, two.cpu_s_per_1000) for one, two in pairs]
    known = [(one, two) for one, two in cpus if one and two]
    cpu_ratio = median(two for _, two in known) / median(one for one, _ in known) if known else None
    return Ratio(ours, other, connections, value, min(each), max(each), cpu_ratio)


def ratios_of(outcome: Outcome) -> list[Ratio]:
    """Each of ours against every other server that was measured, on every number of connections."""
    names = list(dict.fromkeys(sample.contestant for sample in outcome.samples))
    others = [name for name in names if name not in (*ALL_OF_OURS, *BASELINES)]
    counts = sorted({sample.connections for sample in outcome.samples if sample.contestant in OURS})
    found = (ratio_of(outcome, mine, other, count) for other in others for count in counts for mine in OURS)
    return [ratio for ratio in found if ratio is not None]


def verdicts_of(outcome: Outcome, bars: Sequence[Bar]) -> list[Verdict]:
    """Every bar on every number of connections that both sides were measured on."""
    found = [(bar, ratio_of(outcome, bar.ours, bar.other, count)) for bar in bars for count in bar.connections]
    return [Verdict(bar, ratio) for bar, ratio in found if ratio is not None]


def ratios_table(ratios: Sequence[Ratio]) -> list[str]:
    """Markdown: one row a server and number of connections, one column for each of ours; nothing without ratios."""
    if not ratios:
        return []
    mine = [name for name in OURS if any(ratio.ours == name for ratio in ratios)]
    lines = [
        "# Ours against each",
        "",
        "How many times as many requests a second as theirs: of the medians (lowest to highest of the rounds; CPU: how many times "
        "the CPU time of a request here theirs takes).",
        "",
        f"| against | connections | {' | '.join(mine)} |",
        "|---|---:|" + "---|" * len(mine),
    ]
    rows: dict[tuple[str, int], dict[str, Ratio]] = {}
    for ratio in ratios:
        rows.setdefault((ratio.other, ratio.connections), {})[ratio.ours] = ratio
    for (other, connections), row in rows.items():
        cells = [str(row[name]) if name in row else "–" for name in mine]
        lines.append(f"| {other} | {connections} | {' | '.join(cells)} |")
    return [*lines, ""]


def bars_table(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown: one row a bar and number of connections; nothing without bars."""
    if not verdicts:
        return []
    lines = [
        "| ours | against | bar | connections | ratio of medians (rounds; CPU) | |",
        "|---|---|---:|---:|---|---|",
    ]
    for verdict in verdicts:
        bar, ratio = verdict.bar, verdict.ratio
        lines.append(
            f"| {bar.ours} | {bar.other} | {bar.factor:g} | {ratio.connections} | {ratio} | "
            f"{'cleared' if verdict.is_cleared else 'missed'} |"
        )
    return lines

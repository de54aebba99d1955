"""What the rounds come to: medians, ratios of medians, the bars that ours has to clear; as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.contestants import GRPC_ECHO, GRPCIO, NATIVE, REST
from benchmarks.serving.endurance import MOST_GROWTH, Endurance
from benchmarks.serving.rounds import OPEN_SHARE, RAW, Outcome, Plan, Sample

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """`ours` answers at least `factor` times as many requests a second as `other`, on each of `connections`."""

    ours: str
    other: str
    factor: float
    connections: tuple[int, ...] = (1, 8, 32)


BARS: Sequence[Bar] = (
    Bar(GRPCIO, "mlserver", 2.0),
    Bar(GRPCIO, "kserve", 1.2),
    Bar(GRPCIO, GRPC_ECHO, 0.75),
    Bar(REST, "mlserver", 4.0),
    Bar(REST, RAW, 0.35),
    Bar(NATIVE, "mlserver", 6.0, (8, 32)),
)


IDENTITY_BARS: Sequence[Bar] = (
    Bar(GRPCIO, "mlserver", 1.5, (1, 8)),
    Bar(NATIVE, "mlserver", 1.5, (1, 8)),
    Bar(REST, "mlserver", 1.5, (1, 8)),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar on one number of connections: the ratio of medians, and of each round the lowest and highest."""

    bar: Bar
    connections: int
    ratio: float
    lowest: float
    highest: float
    cpu_ratio: float | None
    """How many times the other's CPU time a request is ours: on a machine that others use too it says more than rates."""

    @property
    def is_cleared(self) -> bool:
        """Whether the ratio of medians is at or above the bar."""
        return self.ratio >= self.bar.factor


class Results:
    """Figures of one outcome."""

    def __init__(
        self, outcome: Outcome, plan: Plan, identity: Outcome | None = None, endurance: Endurance | None = None
    ) -> None:
        self.outcome = outcome
        self.plan = plan
        self.identity = identity
        self.endurance = endurance
        self.names = list(dict.fromkeys(sample.contestant for sample in outcome.samples))

    def of(self, name: str, connections: int) -> list[Sample]:
        """The samples of one contestant; raw rows a second are the same for any number of connections."""
        return _of(self.outcome, name, connections)

    def per_s(self, name: str, connections: int) -> float | None:
        """The median over rounds; None without samples."""
        rates = [sample.per_s for sample in self.of(name, connections)]
        return median(rates) if rates else None

    def cpu_s_per_1000(self, name: str, connections: int) -> float | None:
        """The median over rounds of the server's CPU seconds for 1,000 requests."""
        found = [s.cpu_s_per_1000 for s in self.of(name, connections) if s.cpu_s_per_1000 is not None]
        return median(found) if found else None

    def verdicts(self) -> list[Verdict]:
        """Every bar on every number of connections that both sides were measured on."""
        return _verdicts(self.outcome, BARS)

    def identity_verdicts(self) -> list[Verdict]:
        """The same for the large tensor."""
        return [] if self.identity is None else _verdicts(self.identity, IDENTITY_BARS)

    def to_dict(self, environment: Mapping[str, Any], when: str) -> dict[str, Any]:
        """Everything in types that `json` writes, raw samples first."""
        return {
            "schema_version": SCHEMA_VERSION,
            "when": when,
            "plan": dataclasses.asdict(self.plan),
            "environment": dict(environment),
            "missing": self.outcome.missing,
            "samples": [dataclasses.asdict(sample) for sample in self.outcome.samples],
            "at_fixed_rate": [dataclasses.asdict(sample) for sample in self.outcome.at_fixed_rate],
            "identity": None
            if self.identity is None
            else {
                "missing": self.identity.missing,
                "samples": [dataclasses.asdict(sample) for sample in self.identity.samples],
                "bars": [_verdict_dict(v) for v in self.identity_verdicts()],
            },
            "endurance": None if self.endurance is None else dataclasses.asdict(self.endurance),
            "bars": [_verdict_dict(v) for v in self.verdicts()],
        }

    def to_markdown(self, environment: Mapping[str, Any], when: str, protocols: Mapping[str, str]) -> str:
        """The tables, for people."""
        plan = self.plan
        lines = [
            "# One digits row a request",
            "",
            f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; "
            f"Python {environment['python']}; commit {environment['commit']}; {when}.",
            f"Load: h2load on the same cores, one request at a time on each connection; medians of {plan.rounds} interleaved "
            f"rounds of {plan.seconds:g} s. Load average before: {environment['load_before'][0]}. "
            "Everybody runs `fp32.onnx` of the bundle that ships on ONNX Runtime with one thread; every answer was checked first.",
            *_doubts(environment),
            "",
            "| server | asked over | " + " | ".join(f"requests/s, {c} conn." for c in plan.connections) + " | "
            + " | ".join(f"CPU s per 1,000, {c} conn." for c in plan.connections) + " |",
            "|---|---|" + "---:|" * (2 * len(plan.connections)),
        ]  # fmt: skip
        for name in sorted(self.names, key=lambda n: -(self.per_s(n, plan.connections[-1]) or 0)):
            rates = [_show(self.per_s(name, c), "{:,.0f}") for c in plan.connections]
            cpus = [_show(self.cpu_s_per_1000(name, c), "{:.3f}") for c in plan.connections]
            lines.append(f"| {name} | {protocols.get(name, 'in process')} | {' | '.join([*rates, *cpus])} |")
        for name, reason in self.outcome.missing.items():
            lines.append(f"| {name} | missing | {' '.join(reason.split())[:300].replace('|', '/')} |")
        lines += ["", *_bars_table(self.verdicts())]
        lines += self._open_lines() + self._identity_lines() + self._endurance_lines()
        return "\n".join(lines) + "\n"

    def _open_lines(self) -> list[str]:
        """Latency at a fixed rate."""
        samples = self.outcome.at_fixed_rate
        if not samples:
            return []
        lines = [
            "",
            f"# At {OPEN_SHARE:.0%} of each one's own saturated rate, open loop",
            "",
            "h2load at a fixed rate; medians over rounds. Everybody at their own rate: the faster one is asked more a second.",
            "",
            "| server | asked/s | answered/s | p50 ms | p99 ms |",
            "|---|---:|---:|---:|---:|",
        ]
        for name in dict.fromkeys(sample.contestant for sample in samples):
            own = [sample for sample in samples if sample.contestant == name]
            asked, got, p50, p99 = (
                median(getattr(sample, field) for sample in own)
                for field in ("asked_per_s", "per_s", "p50_ms", "p99_ms")
            )
            lines.append(f"| {name} | {asked:,.0f} | {got:,.0f} | {p50:.2f} | {p99:.2f} |")
        return lines

    def _identity_lines(self) -> list[str]:
        """The large tensor."""
        if self.identity is None:
            return []
        rounds = 1 + max((sample.round for sample in self.identity.samples), default=-1)
        lines = [
            "",
            "# 602 KB in, 602 KB out",
            "",
            f"A model that gives back its input, [1, 3, 224, 224] float32; medians of {rounds} rounds. Copies of the tensor here: "
            "in, two on gRPC (protobuf takes it, and hands it out) and one on REST (uvicorn gathers the body; the parts are "
            "joined); out, one on gRPC (into the reply) and none on REST.",
            "",
            "| server | requests/s, 1 conn. | requests/s, 8 conn. | CPU s per 1,000, 8 conn. |",
            "|---|---:|---:|---:|",
        ]
        for name in dict.fromkeys(sample.contestant for sample in self.identity.samples):
            one, eight = _of(self.identity, name, 1), _of(self.identity, name, 8)
            cpu = median(s.cpu_s_per_1000 or 0.0 for s in eight)
            lines.append(
                f"| {name} | {median(s.per_s for s in one):,.0f} | {median(s.per_s for s in eight):,.0f} | {cpu:.3f} |"
            )
        for name, reason in self.identity.missing.items():
            lines.append(f"| {name} | missing: {' '.join(reason.split())[:300].replace('|', '/')} | | |")
        return [*lines, "", *_bars_table(self.identity_verdicts())]

    def _endurance_lines(self) -> list[str]:
        """Memory over very many requests."""
        told = self.endurance
        if told is None:
            return []
        return [
            "",
            "# Memory",
            "",
            f"{told.contestant}: {told.requests[-1]:,} requests of {told.wanted:,} wanted. Resident "
            f"{told.memory_bytes[0] / 2**20:.1f} MiB before, {told.memory_bytes[-1] / 2**20:.1f} MiB after; growth from a tenth of "
            f"the requests to the end {told.growth:+.2%} (bar: {MOST_GROWTH:.0%}, "
            f"{'cleared' if told.growth <= MOST_GROWTH else 'missed'}).",
        ]

    def write(
        self, folder: Path, name: str, environment: Mapping[str, Any], when: str, protocols: Mapping[str, str]
    ) -> tuple[Path, Path]:
        """Writes `name`.json and `name`.md and returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        data, text = folder / f"{name}.json", folder / f"{name}.md"
        data.write_text(json.dumps(self.to_dict(environment, when), indent=1) + "\n")
        text.write_text(self.to_markdown(environment, when, protocols))
        return data, text


def _doubts(environment: Mapping[str, Any]) -> list[str]:
    load, threads = environment["load_before"][0], environment["hardware"]["cores"]["threads"]
    if load <= threads / 4:
        return []
    return [
        "",
        f"**The machine was not free: load average {load:.1f} on {threads} threads before the run. Rates then say mostly who was "
        "given the processor; CPU time a request says more. Measure again on a quiet machine before anything is concluded.**",
    ]


def _of(outcome: Outcome, name: str, connections: int) -> list[Sample]:
    return [
        sample
        for sample in outcome.samples
        if sample.contestant == name and (sample.connections == connections or name == RAW)
    ]


def _verdicts(outcome: Outcome, bars: Sequence[Bar]) -> list[Verdict]:
    found: list[Verdict] = []
    for bar in bars:
        for connections in bar.connections:
            ours, other = _of(outcome, bar.ours, connections), _of(outcome, bar.other, connections)
            if not ours or not other:
                continue
            by_round = {sample.round: sample.per_s for sample in other}
            each = [sample.per_s / by_round[sample.round] for sample in ours if sample.round in by_round]
            ratio = median(s.per_s for s in ours) / median(s.per_s for s in other)
            spread = min(each, default=ratio), max(each, default=ratio)
            found.append(Verdict(bar, connections, ratio, *spread, _cpu_ratio(ours, other)))
    return found


def _cpu_ratio(ours: Sequence[Sample], other: Sequence[Sample]) -> float | None:
    mine = [s.cpu_s_per_1000 for s in ours if s.cpu_s_per_1000]
    theirs = [s.cpu_s_per_1000 for s in other if s.cpu_s_per_1000]
    return median(theirs) / median(mine) if mine and theirs else None


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "ours": verdict.bar.ours,
        "other": verdict.bar.other,
        "factor": verdict.bar.factor,
        "connections": verdict.connections,
        "ratio": round(verdict.ratio, 4),
        "lowest": round(verdict.lowest, 4),
        "highest": round(verdict.highest, 4),
        "cpu_ratio": None if verdict.cpu_ratio is None else round(verdict.cpu_ratio, 4),
        "is_cleared": verdict.is_cleared,
    }


def _bars_table(verdicts: Sequence[Verdict]) -> list[str]:
    lines = [
        "| ours | against | bar | connections | ratio of medians | rounds | its CPU a request / ours | |",
        "|---|---|---:|---:|---:|---|---:|---|",
    ]
    for v in verdicts:
        lines.append(
            f"| {v.bar.ours} | {v.bar.other} | {v.bar.factor:g} | {v.connections} | {v.ratio:.2f} | "
            f"{v.lowest:.2f} to {v.highest:.2f} | {_show(v.cpu_ratio, '{:.2f}')} | "
            f"{'cleared' if v.is_cleared else 'missed'} |"
        )
    return lines


def _show(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)

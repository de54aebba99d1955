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
from benchmarks.serving.rounds import RAW, Outcome, Plan, Sample

SCHEMA_VERSION = 1


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar on one number of connections: the ratio of medians, and of each round the lowest and highest."""

    bar: Bar
    connections: int
    ratio: float
    lowest: float
    highest: float

    @property
    def is_cleared(self) -> bool:
        """Whether the ratio of medians is at or above the bar."""
        return self.ratio >= self.bar.factor


class Results:
    """Figures of one outcome."""

    def __init__(self, outcome: Outcome, plan: Plan) -> None:
        self.outcome = outcome
        self.plan = plan
        self.names = list(dict.fromkeys(sample.contestant for sample in outcome.samples))

    def of(self, name: str, connections: int) -> list[Sample]:
        """The samples of one contestant; raw rows a second are the same for any number of connections."""
        return [
            sample
            for sample in self.outcome.samples
            if sample.contestant == name and (sample.connections == connections or name == RAW)
        ]

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
        found: list[Verdict] = []
        for bar in BARS:
            for connections in bar.connections:
                ours, other = self.of(bar.ours, connections), self.of(bar.other, connections)
                if not ours or not other:
                    continue
                by_round = {sample.round: sample.per_s for sample in other}
                each = [sample.per_s / by_round[sample.round] for sample in ours if sample.round in by_round]
                ratio = median(s.per_s for s in ours) / median(s.per_s for s in other)
                found.append(Verdict(bar, connections, ratio, min(each, default=ratio), max(each, default=ratio)))
        return found

    def to_dict(self, environment: Mapping[str, Any], when: str) -> dict[str, Any]:
        """Everything in types that `json` writes, raw samples first."""
        return {
            "schema_version": SCHEMA_VERSION,
            "when": when,
            "plan": dataclasses.asdict(self.plan),
            "environment": dict(environment),
            "missing": self.outcome.missing,
            "samples": [dataclasses.asdict(sample) for sample in self.outcome.samples],
            "bars": [
                {
                    "ours": v.bar.ours,
                    "other": v.bar.other,
                    "factor": v.bar.factor,
                    "connections": v.connections,
                    "ratio": round(v.ratio, 4),
                    "lowest": round(v.lowest, 4),
                    "highest": round(v.highest, 4),
                    "is_cleared": v.is_cleared,
                }
                for v in self.verdicts()
            ],
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
        lines += [
            "",
            "| ours | against | bar | connections | ratio of medians | rounds | |",
            "|---|---|---:|---:|---:|---|---|",
        ]
        for v in self.verdicts():
            lines.append(
                f"| {v.bar.ours} | {v.bar.other} | {v.bar.factor:g} | {v.connections} | {v.ratio:.2f} | "
                f"{v.lowest:.2f} to {v.highest:.2f} | {'cleared' if v.is_cleared else 'missed'} |"
            )
        return "\n".join(lines) + "\n"

    def write(
        self, folder: Path, name: str, environment: Mapping[str, Any], when: str, protocols: Mapping[str, str]
    ) -> tuple[Path, Path]:
        """Writes `name`.json and `name`.md and returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        data, text = folder / f"{name}.json", folder / f"{name}.md"
        data.write_text(json.dumps(self.to_dict(environment, when), indent=1) + "\n")
        text.write_text(self.to_markdown(environment, when, protocols))
        return data, text


def _show(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)

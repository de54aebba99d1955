"""What the rounds come to: medians, ratios of medians, the bars that ours has to clear; as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.endurance import MOST_GROWTH, Endurance
from benchmarks.serving.ratios import (
    BARS,
    BARS_AS_CALIBRATED,
    BARS_OF_A_BARE_SERVER,
    BARS_OF_TWO_WORKERS,
    IDENTITY_BARS,
    Bar,
    Ratio,
    Verdict,
    bars_table,
    ratios_of,
    ratios_table,
    samples_of,
    verdicts_of,
)
from benchmarks.serving.rounds import OPEN_SHARE, RAW, OpenSample, Outcome, Plan, Sample
from runtime.errors import WrongUseError

SCHEMA_VERSION = 3


@dataclass(frozen=True, slots=True)
class MoreBars:
    """The bars once more, of others than ours of the same file in one process."""

    key: str
    """In JSON."""
    title: str
    said: str
    bars: Sequence[Bar]


MORE_BARS: Sequence[MoreBars] = (
    MoreBars(
        "bars_as_calibrated",
        "As calibrated",
        "The bars above are of the same file on the same engine; these, of what a user of each server gets.",
        BARS_AS_CALIBRATED,
    ),
    MoreBars(
        "bars_of_two_workers",
        "Two workers",
        "`edgeward serve --workers 2` of the same file, against the same others, which are one process each.",
        BARS_OF_TWO_WORKERS,
    ),
    MoreBars(
        "bars_of_a_bare_server",
        "A bare server",
        "REST's bars, of an ASGI application without protocol or checks that runs the model on what waits: what this machine "
        "lets a server on an event loop reach.",
        BARS_OF_A_BARE_SERVER,
    ),
)


@dataclass(frozen=True, slots=True)
class Results:
    """Figures of one outcome, and where they come from."""

    outcome: Outcome
    plan: Plan
    environment: Mapping[str, Any]
    when: str
    model_sha256: str
    protocols: Mapping[str, str]
    """How each contestant is asked."""
    identity: Outcome | None = None
    endurance: Endurance | None = None
    chosen: str | None = None
    """What ours serves where it serves as calibrated, in words. None: results of before that was measured."""

    @property
    def names(self) -> list[str]:
        """Everybody who was measured."""
        return list(dict.fromkeys(sample.contestant for sample in self.outcome.samples))

    def per_s(self, name: str, connections: int) -> float | None:
        """The median over rounds; None without samples."""
        rates = [sample.per_s for sample in samples_of(self.outcome, name, connections)]
        return median(rates) if rates else None

    def cpu_s_per_1000(self, name: str, connections: int) -> float | None:
        """The median over rounds of the server's CPU seconds for 1,000 requests."""
        samples = samples_of(self.outcome, name, connections)
        found = [s.cpu_s_per_1000 for s in samples if s.cpu_s_per_1000 is not None]
        return median(found) if found else None

    def ratios(self) -> list[Ratio]:
        """Each of ours against every other server."""
        return ratios_of(self.outcome)

    def verdicts(self) -> list[Verdict]:
        """Every bar on every number of connections that both sides were measured on."""
        return verdicts_of(self.outcome, BARS)

    def identity_verdicts(self) -> list[Verdict]:
        """The same for the large tensor."""
        return [] if self.identity is None else verdicts_of(self.identity, IDENTITY_BARS)

    def to_dict(self) -> dict[str, Any]:
        """Everything in types that `json` writes, raw samples first."""
        return {
            "schema_version": SCHEMA_VERSION,
            "when": self.when,
            "plan": dataclasses.asdict(self.plan),
            "environment": dict(self.environment),
            "model_sha256": self.model_sha256,
            "chosen": self.chosen,
            "protocols": dict(self.protocols),
            **dataclasses.asdict(self.outcome),
            "identity": None if self.identity is None else dataclasses.asdict(self.identity),
            "endurance": None if self.endurance is None else dataclasses.asdict(self.endurance),
            "ratios": [ratio.to_dict() for ratio in self.ratios()],
            "bars": [verdict.to_dict() for verdict in self.verdicts()],
            **{each.key: [verdict.to_dict() for verdict in verdicts_of(self.outcome, each.bars)] for each in MORE_BARS},
            "identity_bars": [verdict.to_dict() for verdict in self.identity_verdicts()],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Results:
        """What `to_dict` gave: ratios and bars are computed again from the samples."""
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise WrongUseError(
                f"results of schema version {fields.get('schema_version')!r}; this release reads {SCHEMA_VERSION}: measure again"
            )
        plan, identity, lasting = dict(fields["plan"]), fields["identity"], fields["endurance"]
        return cls(
            _outcome(fields),
            Plan(**{**plan, "connections": tuple(plan["connections"])}),
            fields["environment"],
            fields["when"],
            fields["model_sha256"],
            fields["protocols"],
            None if identity is None else _outcome(identity),
            None if lasting is None else Endurance(**lasting),
            fields.get("chosen"),
        )

    def to_markdown(self) -> str:
        """The tables, for people."""
        plan, environment = self.plan, self.environment
        lines = [
            "# One digits row a request",
            "",
            f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; {environment['platform']}; "
            f"Python {environment['python']}; commit {environment['commit']}; {self.when}.",
            f"Load: h2load on the same cores, one request at a time on each connection; medians of {plan.rounds} interleaved "
            f"rounds of {plan.seconds:g} s. Load average before: {environment['load_before'][0]}. "
            f"Everybody runs `fp32.onnx` of the bundle that ships (sha256 {self.model_sha256}) on ONNX Runtime with one thread; "
            f"every answer was checked first.{self._said_of_chosen()}",
            *self._stopped_lines(),
            *_doubts(environment),
            "",
            "| server | asked over | " + " | ".join(f"requests/s, {c} conn." for c in plan.connections) + " | "
            + " | ".join(f"CPU s per 1,000, {c} conn." for c in plan.connections) + " |",
            "|---|---|" + "---:|" * (2 * len(plan.connections)),
        ]  # fmt: skip
        for name in sorted(self.names, key=lambda n: -(self.per_s(n, plan.connections[-1]) or 0)):
            rates = [_show(self.per_s(name, c), "{:,.0f}") for c in plan.connections]
            cpus = [_show(self.cpu_s_per_1000(name, c), "{:.3f}") for c in plan.connections]
            lines.append(f"| {name} | {self._asked_over(name)} | {' | '.join([*rates, *cpus])} |")
        for name, reason in self.outcome.missing.items():
            lines.append(f"| {name} | missing | {_cell(reason)} |")
        lines += ["", *ratios_table(self.ratios()), *bars_table(self.verdicts())]
        for more in (
            self._more_bars_lines,
            self._open_lines,
            self._identity_lines,
            self._endurance_lines,
        ):
            lines += more()
        return "\n".join(lines).rstrip() + "\n"

    def _said_of_chosen(self) -> str:
        if self.chosen is None:
            return ""
        return f" As calibrated: what `edgeward serve digits` chose of the bundle on this machine, {self.chosen}."

    def _more_bars_lines(self) -> list[str]:
        """The same bars of others than ours of the same file."""
        lines: list[str] = []
        for each in MORE_BARS:
            if table := bars_table(verdicts_of(self.outcome, each.bars)):
                lines += ["", f"# {each.title}", "", each.said, "", *table]
        return lines

    def _asked_over(self, name: str) -> str:
        over, batch = self.protocols.get(name, "in process"), self.outcome.raw_batch
        return f"{over}, batches of {batch}" if name == RAW and batch is not None else over

    def _stopped_lines(self) -> list[str]:
        """That somebody ended it early."""
        if not self.outcome.was_stopped:
            return []
        rounds = 1 + max((sample.round for sample in self.outcome.samples), default=-1)
        return [
            "",
            f"**Stopped in round {rounds} of {self.plan.rounds}: medians are of what was measured until then.**",
        ]

    def _open_lines(self) -> list[str]:
        """Latency at a fixed rate."""
        samples = self.outcome.at_fixed_rate
        if not samples:
            return []
        lines = [
            "",
            f"# At {OPEN_SHARE:.0%} of each one's own saturated rate",
            "",
            "h2load at a fixed rate; medians over rounds. Everybody at their own rate: the faster one is asked more a second. "
            "Latency counts from when a request went, not from when it was due: what waits for a free connection waits unseen, and "
            "sent/s is then below asked/s.",
            "",
            "| server | asked/s | sent/s | p50 ms | p99 ms |",
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
            f"A model that gives back its input, [1, 3, 224, 224] float32; medians of {rounds} rounds. How often the "
            "tensor is copied here: copies.md.",
            "",
            "| server | requests/s, 1 conn. | requests/s, 8 conn. | CPU s per 1,000, 8 conn. |",
            "|---|---:|---:|---:|",
        ]
        for name in dict.fromkeys(sample.contestant for sample in self.identity.samples):
            one, eight = samples_of(self.identity, name, 1), samples_of(self.identity, name, 8)
            cpu = median(s.cpu_s_per_1000 or 0.0 for s in eight)
            lines.append(
                f"| {name} | {median(s.per_s for s in one):,.0f} | {median(s.per_s for s in eight):,.0f} | {cpu:.3f} |"
            )
        for name, reason in self.identity.missing.items():
            lines.append(f"| {name} | missing: {_cell(reason)} | | |")
        return [*lines, "", *bars_table(self.identity_verdicts())]

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

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes `name`.json and `name`.md and returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        data, text = folder / f"{name}.json", folder / f"{name}.md"
        data.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        text.write_text(self.to_markdown())
        return data, text


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    samples = [Sample(**sample) for sample in fields["samples"]]
    if fields.get("raw_batch") is None:
        # Of before it was told: what was then called the processor's time of the raw session was time by the clock.
        samples = [replace(one, cpu_s_per_1000=None) if one.contestant == RAW else one for one in samples]
    return Outcome(
        tuple(samples),
        fields["missing"],
        tuple(OpenSample(**sample) for sample in fields["at_fixed_rate"]),
        fields.get("raw_batch"),
        fields["was_stopped"],
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _doubts(environment: Mapping[str, Any]) -> list[str]:
    load, threads = environment["load_before"][0], environment["hardware"]["cores"]["threads"]
    if load <= threads / 4:
        return []
    return [
        "",
        f"**The machine was not free: load average {load:.1f} on {threads} threads before the run. Rates then say mostly who was "
        "given the processor; CPU time a request says more. Measure again on a quiet machine before anything is concluded.**",
    ]


def _show(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)

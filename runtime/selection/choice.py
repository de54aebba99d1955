"""The outcome: candidates ranked, each with its numbers and a sentence, and what was left out and why.

`Choice` is for programs; `ChoiceRecord` is its JSON form, for `--json` and the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.backends.base import Backend, RunOptions
from runtime.bundle.bundle import Bundle
from runtime.selection.candidates import Candidate, Rejected
from runtime.selection.cost import CostModel
from runtime.selection.latency import Latency
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import Objective


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that may serve, with what was measured of it."""

    candidate: Candidate
    latency: Latency
    """Of a call with `rows` rows."""
    rows: int
    cost: CostModel
    accuracy: float | None
    agreement: float | None
    memory_mb: float | None
    verdict: str
    """One sentence with its number and the reason for its place."""
    max_rows: int | None = None
    """The most rows of a call that stayed under the memory cap; None where there is no cap."""
    confidence_error: float | None = None
    """Mean difference of the probability that a classifier gives the reference's class; None where it was not compared."""
    memory: tuple[MemoryUse, ...] = ()
    """By rows of a call, ascending; empty where it is not known."""
    busy: tuple[tuple[int, float], ...] = ()
    """By rows of a call, ascending: for how many milliseconds it keeps processors busy, all threads together, those that spin
    included (a device: is taken); empty of who was only tried."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run, in order of preference: should the first vanish while serving, the next one takes over."""

    bundle: str
    version: int
    objective: Objective
    ranked: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]
    guard: str
    """What the answers were checked with."""
    warnings: tuple[str, ...] = ()
    """What holds of the choice for as long as it is kept, and is said at every load."""
    doubts: tuple[str, ...] = ()
    """Why the measuring itself is not to be trusted quite; said where it was measured, and where it is looked into."""
    trial_s: float = 0.0
    """Time the trial took, when this was measured."""
    measuring_s: float = 0.0
    loading_s: float = 0.0
    """Time that engines, and the process they ran in, took to load beside that."""
    from_cache: bool = False

    @property
    def calibration_s(self) -> float:
        """What the budget covers: trials and measuring."""
        return self.trial_s + self.measuring_s

    @property
    def selected(self) -> Ranked:
        """The candidate to run."""
        return self.ranked[0]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """A sentence for every candidate, and for every variant on every backend for its format, the chosen one first.

        Backends for other formats are in `rejected` alone.
        """
        out = tuple(str(rejected) for rejected in self.rejected if not rejected.is_misfit)
        return (*(ranked.verdict for ranked in self.ranked), *out)

    def with_warnings(self, *warnings: str | None) -> Choice:
        """The same choice with more warnings; None is no warning."""
        return replace(self, warnings=(*self.warnings, *(text for text in warnings if text)))

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that `json` writes."""
        return {
            **self.to_record().model_dump(mode="json"),
            "from_cache": self.from_cache,
            "verdicts": list(self.verdicts),
        }

    def to_record(self) -> ChoiceRecord:
        """The form that is kept."""
        return ChoiceRecord(
            bundle=self.bundle,
            version=self.version,
            objective=self.objective,
            ranked=tuple(_ranked_record(ranked) for ranked in self.ranked),
            rejected=tuple(
                RejectedRecord(
                    variant=r.variant, backend=r.backend, reason=r.reason, options=r.options, is_misfit=r.is_misfit
                )
                for r in self.rejected
            ),
            guard=self.guard,
            warnings=self.warnings,
            doubts=self.doubts,
            trial_s=self.trial_s,
            measuring_s=self.measuring_s,
            loading_s=self.loading_s,
        )


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class LatencyRecord(_Record):
    """`Latency` as JSON."""

    median_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    spread: float = Field(ge=0)
    turns: int = Field(ge=1)
    calls: int = Field(ge=1)


class MemoryUseRecord(_Record):
    """`MemoryUse` as JSON."""

    rows: int = Field(ge=1)
    mb: float = Field(ge=0)
    gpu_mb: float | None = Field(ge=0)


class RankedRecord(_Record):
    """`Ranked` as JSON, its candidate by names."""

    variant: str
    backend: str
    threads: int = Field(ge=1)
    extra: dict[str, str]
    latency: LatencyRecord
    rows: int = Field(ge=1)
    cost_ms_by_rows: dict[str, float]
    accuracy: float | None = Field(ge=0, le=1)
    agreement: float | None = Field(ge=0, le=1)
    memory_mb: float | None = Field(ge=0)
    verdict: str
    max_rows: int | None = Field(ge=1)
    confidence_error: float | None = Field(ge=0, le=1)
    memory: tuple[MemoryUseRecord, ...] = ()
    busy_ms_by_rows: dict[int, float]


class RejectedRecord(_Record):
    """`Rejected` as JSON."""

    variant: str
    backend: str
    reason: str
    options: str | None
    is_misfit: bool


class ChoiceRecord(_Record):
    """`Choice` as JSON."""

    bundle: str
    version: int
    objective: Objective
    ranked: tuple[RankedRecord, ...] = Field(min_length=1)
    rejected: tuple[RejectedRecord, ...]
    guard: str
    warnings: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    trial_s: float = Field(ge=0)
    measuring_s: float = Field(ge=0)
    loading_s: float = Field(ge=0)

    def to_choice(self, bundle: Bundle, backends: Sequence[Backend]) -> Choice:
        """The choice again, on the bundle and backends of this process; `LookupError` when one of them is not there."""
        variants = {variant.name: variant for variant in bundle.variants}
        by_name = {backend.name: backend for backend in backends}
        ranked = tuple(
            Ranked(
                Candidate(variants[r.variant], by_name[r.backend], RunOptions(r.threads, r.extra)),
                Latency(r.latency.median_ms, r.latency.p95_ms, r.latency.spread, r.latency.turns, r.latency.calls),
                r.rows,
                CostModel.from_dict(r.cost_ms_by_rows),
                r.accuracy,
                r.agreement,
                r.memory_mb,
                r.verdict,
                r.max_rows,
                r.confidence_error,
                tuple(MemoryUse(use.rows, use.mb, use.gpu_mb) for use in r.memory),
                tuple(sorted(r.busy_ms_by_rows.items())),
            )
            for r in self.ranked
        )
        return Choice(
            self.bundle,
            self.version,
            self.objective,
            ranked,
            tuple(Rejected(r.variant, r.backend, r.reason, r.options, r.is_misfit) for r in self.rejected),
            self.guard,
            self.warnings,
            self.doubts,
            self.trial_s,
            self.measuring_s,
            self.loading_s,
            from_cache=True,
        )


def _ranked_record(ranked: Ranked) -> RankedRecord:
    latency = ranked.latency
    return RankedRecord(
        variant=ranked.candidate.variant.name,
        backend=ranked.candidate.backend.name,
        threads=ranked.candidate.options.threads,
        extra=dict(ranked.candidate.options.extra),
        latency=LatencyRecord(
            median_ms=latency.median_ms,
            p95_ms=latency.p95_ms,
            spread=latency.spread,
            turns=latency.turns,
            calls=latency.calls,
        ),
        rows=ranked.rows,
        cost_ms_by_rows=ranked.cost.to_dict(),
        accuracy=ranked.accuracy,
        agreement=ranked.agreement,
        memory_mb=ranked.memory_mb,
        verdict=ranked.verdict,
        max_rows=ranked.max_rows,
        confidence_error=ranked.confidence_error,
        memory=tuple(MemoryUseRecord(rows=use.rows, mb=use.mb, gpu_mb=use.gpu_mb) for use in ranked.memory),
        busy_ms_by_rows=dict(ranked.busy),
    )

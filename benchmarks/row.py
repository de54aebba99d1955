"""One measurement in figures: what tables, reports and JSON show of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.breakdown import Breakdown, breakdown_of
from benchmarks.samples import Recording
from benchmarks.settings import TargetName
from benchmarks.statistics import Summary

UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement in figures."""

    model: str
    target: str
    scenario: str
    backend: str
    """Actually used, as the answers said; several where it changed."""
    summary: Summary
    cpu_s_per_1000: float | None
    """CPU seconds of the serving process by 1,000 requests; None where it is not on this machine."""
    peak_memory_bytes: int | None
    joules_per_1000: float | None
    """Of the whole machine; None where it has no meter that can be read."""
    no_energy_reason: str | None
    breakdown: Breakdown | None
    lag_ms: Mapping[str, float] | None
    """How late the generator itself sent, which is part of the latency: `p50`, `p99` and `max`. None in closed loops."""
    model_sha256: str | None
    """Of the variant in use; None where the server does not tell it."""
    invalid_reason: str | None
    was_stopped: bool
    """A person ended it early (Ctrl-C)."""
    doubts: tuple[str, ...]
    error_texts: Mapping[str, str] = field(default_factory=dict)
    """What the first error of each code said."""

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        return {
            "model": self.model,
            "target": self.target,
            "scenario": self.scenario,
            "backend": self.backend,
            **self.summary.to_dict(),
            "error_texts": dict(self.error_texts),
            "cpu_s_per_1000": self.cpu_s_per_1000,
            "peak_memory_bytes": self.peak_memory_bytes,
            "joules_per_1000": self.joules_per_1000,
            "no_energy_reason": self.no_energy_reason,
            "time_went_ms": None if self.breakdown is None else self.breakdown.to_dict(),
            "generator_lag_ms": None if self.lag_ms is None else dict(self.lag_ms),
            "model_sha256": self.model_sha256,
            "invalid_reason": self.invalid_reason,
            "was_stopped": self.was_stopped,
            "doubts": list(self.doubts),
        }


def row_of(recording: Recording, slo_ms: float | None = None) -> Row:
    """The figures of one recording."""
    header = recording.header
    energy = header.get("energy", {})
    return Row(
        model=header["target"]["model"],
        target=TargetName.parse(header["setting"]["target"]).label,
        scenario=header["scenario_text"],
        backend=backend_used(header),
        summary=recording.summary(slo_ms),
        cpu_s_per_1000=header["cpu_s_per_1000"],
        peak_memory_bytes=header["peak_memory_bytes"],
        joules_per_1000=energy.get("joules_per_1000"),
        no_energy_reason=energy.get("reason"),
        breakdown=breakdown_of(recording),
        lag_ms=lag_of(recording),
        model_sha256=model_sha256(header),
        invalid_reason=header["invalid_reason"],
        was_stopped=header["was_stopped"],
        doubts=tuple(header["doubts"]),
        error_texts=header.get("error_texts", {}),
    )


def lag_of(recording: Recording) -> Mapping[str, float] | None:
    """Of all requests that were sent, answered or not; None where none was due at a time of its own."""
    scenario = recording.header["scenario"]
    if scenario["arrivals"] is None or not len(recording.samples):
        return None
    lag_ms = recording.samples.lag_ms(scenario["in_flight"])
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: float(np.quantile(lag_ms, share)) for name, share in shares.items()}


def model_sha256(header: Mapping[str, Any]) -> str | None:
    """Of the variant in use; None where the server does not tell it."""
    digest: str | None = header["target"]["digests"].get("variant")
    return digest


def backend_used(header: Mapping[str, Any]) -> str:
    """What the answers named as their backend, with `edge` or `cloud` where a server says it; else the platform."""
    is_inproc = TargetName.parse(header["setting"]["target"]).is_inproc
    names = []
    for origin in header["origins"]:
        served_by = "" if is_inproc else origin["served_by"]
        names.append(": ".join(word for word in (served_by, origin["backend"]) if word))
    return "; ".join(filter(None, names)) or header["target"]["platform"] or UNKNOWN

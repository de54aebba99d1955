"""One measurement in figures: what tables, reports and JSON show of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    model_sha256: str | None
    """Of the variant in use; None where the server does not tell it."""
    invalid_reason: str | None
    doubts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        return {
            "model": self.model,
            "target": self.target,
            "scenario": self.scenario,
            "backend": self.backend,
            **self.summary.to_dict(),
            "cpu_s_per_1000": self.cpu_s_per_1000,
            "peak_memory_bytes": self.peak_memory_bytes,
            "joules_per_1000": self.joules_per_1000,
            "no_energy_reason": self.no_energy_reason,
            "time_went_ms": None if self.breakdown is None else self.breakdown.to_dict(),
            "model_sha256": self.model_sha256,
            "invalid_reason": self.invalid_reason,
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
        model_sha256=model_sha256(header),
        invalid_reason=header["invalid_reason"],
        doubts=tuple(header["doubts"]),
    )


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

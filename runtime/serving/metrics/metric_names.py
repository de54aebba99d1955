"""The rename map: our metrics under the names that Triton's and KServe's dashboards ask for, in their units.

Only what means the same is renamed. KServe's request_preprocess_seconds, request_postprocess_seconds and request_explain_seconds
have no twin here: preprocessing runs with the model, and nothing explains. `WITHOUT_TWIN` says it of Triton's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from runtime.telemetry.exposition import Family, Sample, merged
from runtime.telemetry.histogram import Buckets


@dataclass(frozen=True, slots=True)
class Alias:
    """One foreign name of a metric of ours."""

    ours: str
    theirs: str
    labels: Mapping[str, str]
    """Our labels that go along → what they are called there; the others are left out."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Only samples with these labels."""
    and_with: Mapping[str, str] = field(default_factory=dict)
    """Labels that all of them have there."""
    is_microseconds: bool = False


_MODEL: Final = MappingProxyType({"model": "model", "version": "version"})
_GPU: Final = MappingProxyType({"uuid": "gpu_uuid"})
_USED, _TOTAL = MappingProxyType({"state": "used"}), MappingProxyType({"state": "total"})
# Our reason of a failure → Triton's, which calls a request rejected whose time ran out in the queue.
_REASONS: Final = MappingProxyType({"rejected": "REJECTED", "expired": "REJECTED", "failed": "BACKEND"})
_CANCELLED: Final = MappingProxyType({"reason": "CANCELED"})

TRITON: Final = (
    Alias("edgeward_requests_succeeded_total", "nv_inference_request_success", _MODEL),
    Alias("edgeward_requests_cancelled_total", "nv_inference_request_failure", _MODEL, and_with=_CANCELLED),
    Alias("edgeward_requests_failed_total", "nv_inference_request_failure", {**_MODEL, "reason": "reason"}),
    Alias("edgeward_rows_total", "nv_inference_count", _MODEL),
    Alias("edgeward_executions_total", "nv_inference_exec_count", _MODEL),
    *(
        Alias(f"edgeward_{part}_seconds_total", f"nv_inference_{part}_duration_us", _MODEL, is_microseconds=True)
        for part in ("request", "queue", "compute_input", "compute_infer", "compute_output")
    ),
    Alias("edgeward_queue_requests", "nv_inference_pending_request_count", _MODEL),
    Alias("edgeward_machine_cpu_ratio", "nv_cpu_utilization", {}),
    Alias("edgeward_machine_memory_bytes", "nv_cpu_memory_total_bytes", {}, _TOTAL),
    Alias("edgeward_machine_memory_bytes", "nv_cpu_memory_used_bytes", {}, _USED),
    Alias("edgeward_gpu_busy_ratio", "nv_gpu_utilization", _GPU),
    Alias("edgeward_gpu_memory_bytes", "nv_gpu_memory_total_bytes", _GPU, _TOTAL),
    Alias("edgeward_gpu_memory_bytes", "nv_gpu_memory_used_bytes", _GPU, _USED),
    Alias("edgeward_gpu_power_watts", "nv_gpu_power_usage", _GPU),
    Alias("edgeward_gpu_power_limit_watts", "nv_gpu_power_limit", _GPU),
)
WITHOUT_TWIN: Final = MappingProxyType(
    {
        "nv_energy_consumption": "the power over time tells it, and several workers would each count the same card",
        "nv_inference_first_response_histogram_ms": "of models that answer a request several times",
        "nv_inference_*_summary_us": "off there until asked for; edgeward_request_duration_seconds is a histogram",
        "nv_pinned_memory_pool_*_bytes": "there is no such pool",
        "nv_cache_*_per_model": "answers are not cached",
    }
)
"""Of the names in Triton's user guide those that are not told here, and why."""
KSERVE: Final = (Alias("edgeward_request_duration_seconds", "request_predict_seconds", {"model": "model_name"}),)


def renamed(families: Iterable[Family], aliases: Iterable[Alias] = (*TRITON, *KSERVE)) -> list[Family]:
    """`families` once more under every foreign name."""
    ours = {family.name: family for family in families}
    return merged(_as(alias, ours[alias.ours]) for alias in aliases if alias.ours in ours)


def _as(alias: Alias, family: Family) -> Family:
    unit = "Microseconds. " if alias.is_microseconds else ""
    return Family(alias.theirs, family.kind, f"{unit}{family.text.removeprefix('Seconds. ')}", _samples(alias, family))


def _samples(alias: Alias, family: Family) -> list[Sample]:
    """The samples by their labels there; what differs here alone (versions of one KServe model) is added up."""
    added: dict[tuple[tuple[str, str], ...], float | Buckets] = {}
    for labels, value in family.samples:
        if any(labels.get(name) != wanted for name, wanted in alias.where.items()):
            continue
        words = {name: _word(ours, labels[ours]) for ours, name in alias.labels.items() if ours in labels}
        theirs = tuple({**words, **alias.and_with}.items())
        if alias.is_microseconds and not isinstance(value, Buckets):
            value = math.floor(value * 1e6 + 5e-4)  # whole nanoseconds were divided by 1e9: round that away, then floor
        added[theirs] = _add(added[theirs], value) if theirs in added else value
    return [(dict(labels), value) for labels, value in added.items()]


def _word(label: str, value: str) -> str:
    return _REASONS.get(value, value) if label == "reason" else value


def _add(one: float | Buckets, other: float | Buckets) -> float | Buckets:
    if isinstance(one, Buckets) and isinstance(other, Buckets):
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Buckets(one.bounds, counts, one.sum + other.sum)
    assert not isinstance(one, Buckets)
    assert not isinstance(other, Buckets)
    return one + other

"""`GET /metrics`: what models did, in Prometheus' text format, under Triton's names and under ours in base units.

Written by hand: the format is a handful of lines, and the usual library cannot write Triton's names, for it ends every counter
in `_total`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from runtime.serving.service import InferenceService
from runtime.wire.statistics import ModelStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, and the values of its label sets."""

    name: str
    kind: str
    """"counter" or "gauge"."""
    text: str
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class _Counter:
    name: str
    triton: str
    """Triton's name for the same, its times in microseconds."""
    text: str
    read: Callable[[ModelStatistics], float]


_COUNTERS = (
    _Counter(
        "edgeward_requests_succeeded_total",
        "nv_inference_request_success",
        "Requests that were answered.",
        lambda model: model.success.count,
    ),
    _Counter(
        "edgeward_rows_total", "nv_inference_count", "Rows that were answered.", lambda model: model.inference_count
    ),
    _Counter(
        "edgeward_executions_total",
        "nv_inference_exec_count",
        "Calls of the model.",
        lambda model: model.execution_count,
    ),
)
_DURATIONS = (
    _Counter(
        "edgeward_request_seconds_total",
        "nv_inference_request_duration_us",
        "From arrival to answer, summed over answered requests.",
        lambda model: model.success.ns,
    ),
    _Counter(
        "edgeward_queue_seconds_total",
        "nv_inference_queue_duration_us",
        "Waiting, summed over answered requests.",
        lambda model: model.queue.ns,
    ),
    _Counter(
        "edgeward_compute_input_seconds_total",
        "nv_inference_compute_input_duration_us",
        "Joining inputs to batches, summed over answered requests.",
        lambda model: model.compute_input.ns,
    ),
    _Counter(
        "edgeward_compute_infer_seconds_total",
        "nv_inference_compute_infer_duration_us",
        "Running the model, summed over answered requests.",
        lambda model: model.compute_infer.ns,
    ),
    _Counter(
        "edgeward_compute_output_seconds_total",
        "nv_inference_compute_output_duration_us",
        "Taking outputs apart, summed over answered requests.",
        lambda model: model.compute_output.ns,
    ),
)
# Our reason of a failure → Triton's.
_REASONS: Mapping[str, str] = MappingProxyType({"rejected": "REJECTED", "expired": "OTHER", "failed": "BACKEND"})


def render_metrics(service: InferenceService) -> str:
    """The whole page."""
    models = service.statistics("", "")
    states = Counter(entry.state.value for entry in service.index())
    families = [
        *_model_families(models),
        Family("edgeward_ready", "gauge", "1 while new requests are welcome.", [({}, float(service.is_ready()))]),
        Family(
            "edgeward_model_versions",
            "gauge",
            "Model versions known, by state.",
            [({"state": state}, count) for state, count in sorted(states.items())],
        ),
    ]
    return "".join(map(_render, families))


def _model_families(models: Sequence[ModelStatistics]) -> Iterable[Family]:
    labels = [{"model": model.name, "version": model.version} for model in models]
    for counter in _COUNTERS:
        samples = [(label, counter.read(model)) for label, model in zip(labels, models, strict=True)]
        yield Family(counter.name, "counter", counter.text, samples)
        yield Family(counter.triton, "counter", counter.text, samples)
    for counter in _DURATIONS:
        ns = [(label, counter.read(model)) for label, model in zip(labels, models, strict=True)]
        yield Family(counter.name, "counter", f"Seconds. {counter.text}", [(label, value / 1e9) for label, value in ns])
        yield Family(
            counter.triton, "counter", f"Microseconds. {counter.text}", [(label, value // 1000) for label, value in ns]
        )
    failures = [
        ({**label, "reason": reason}, count)
        for label, model in zip(labels, models, strict=True)
        for reason, count in _failures(model).items()
    ]
    text = "Requests that were refused, came too late, or failed in the model."
    yield Family("edgeward_requests_failed_total", "counter", text, failures)
    yield Family(
        "nv_inference_request_failure",
        "counter",
        text,
        [({**label, "reason": _REASONS[label["reason"]]}, count) for label, count in failures],
    )
    yield Family(
        "edgeward_requests_cancelled_total",
        "counter",
        "Requests whose caller went away.",
        [(label, model.cancelled) for label, model in zip(labels, models, strict=True)],
    )


def _failures(model: ModelStatistics) -> dict[str, int]:
    failed = model.fail.count - model.rejected - model.expired
    return {"rejected": model.rejected, "expired": model.expired, "failed": failed}


def _render(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.text}", f"# TYPE {family.name} {family.kind}"]
    for labels, value in family.samples:
        words = ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items())
        lines.append(f"{family.name}{{{words}}} {value!r}" if words else f"{family.name} {value!r}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

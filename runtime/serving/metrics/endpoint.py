"""`GET /metrics`: what models did and what the server does, in base units; and the same under the names in `metric_names`.

The totals are those of ModelStatistics. Whatever else there is, such as the spread of times or the machine, is handed in by the
program as collectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtime.serving.additions import Additions
from runtime.serving.metrics.metric_names import renamed
from runtime.serving.service import InferenceService
from runtime.telemetry.exposition import Family, Kind, merged, render
from runtime.wire.statistics import ModelStatistics


@dataclass(frozen=True, slots=True)
class _Total:
    name: str
    text: str
    read: Callable[[ModelStatistics], float]


_TOTALS = (
    _Total("edgeward_requests_succeeded_total", "Requests that were answered.", lambda model: model.success.count),
    _Total("edgeward_rows_total", "Rows that were answered.", lambda model: model.inference_count),
    _Total("edgeward_executions_total", "Calls of the model.", lambda model: model.execution_count),
    _Total(
        "edgeward_request_seconds_total",
        "Seconds. From arrival to answer, summed over answered requests.",
        lambda model: model.success.ns / 1e9,
    ),
    _Total(
        "edgeward_queue_seconds_total",
        "Seconds. Waiting, summed over answered requests.",
        lambda model: model.queue.ns / 1e9,
    ),
    _Total(
        "edgeward_compute_input_seconds_total",
        "Seconds. Joining inputs to batches, summed over answered requests.",
        lambda model: model.compute_input.ns / 1e9,
    ),
    _Total(
        "edgeward_compute_infer_seconds_total",
        "Seconds. Running the model, summed over answered requests.",
        lambda model: model.compute_infer.ns / 1e9,
    ),
    _Total(
        "edgeward_compute_output_seconds_total",
        "Seconds. Taking outputs apart, summed over answered requests.",
        lambda model: model.compute_output.ns / 1e9,
    ),
    _Total("edgeward_requests_cancelled_total", "Requests whose caller went away.", lambda model: model.cancelled),
)


async def render_metrics(service: InferenceService, additions: Additions) -> str:
    """The whole page."""
    families = await collect(service, additions)
    return render([*families, *renamed(families)])


async def collect(service: InferenceService, additions: Additions) -> list[Family]:
    """Every metric under its own name."""
    counted = additions.with_others(await additions.families())
    return merged([*_model_families(service.statistics("", ""), additions), *_states(service), *counted])


def _states(service: InferenceService) -> Iterable[Family]:
    states = Counter(entry.state.value for entry in service.index())
    yield Family("edgeward_ready", Kind.GAUGE, "1 while new requests are welcome.", [({}, float(service.is_ready()))])
    yield Family(
        "edgeward_model_versions",
        Kind.GAUGE,
        "Model versions known, by state.",
        [({"state": state}, count) for state, count in sorted(states.items())],
    )


def _model_families(models: Sequence[ModelStatistics], additions: Additions) -> Iterable[Family]:
    labels = [_labels(model, additions) for model in models]
    for total in _TOTALS:
        samples = [(label, total.read(model)) for label, model in zip(labels, models, strict=True)]
        yield Family(total.name, Kind.COUNTER, total.text, samples)
    yield Family(
        "edgeward_requests_failed_total",
        Kind.COUNTER,
        "Requests that were refused, came too late, or failed in the model.",
        [
            ({**label, "reason": reason}, count)
            for label, model in zip(labels, models, strict=True)
            for reason, count in _failures(model).items()
        ],
    )


def _labels(model: ModelStatistics, additions: Additions) -> Mapping[str, str]:
    return {"model": model.name, "version": model.version, **additions.labels_of(model.name, model.version)}


def _failures(model: ModelStatistics) -> dict[str, int]:
    failed = model.fail.count - model.rejected - model.expired
    return {"rejected": model.rejected, "expired": model.expired, "failed": failed}

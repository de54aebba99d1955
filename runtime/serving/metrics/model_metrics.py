"""Metrics of the models in this process: how their times spread, what waits, which batches ran, which backend was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from runtime.engine.model import Model
from runtime.serving.local_service import LocalService
from runtime.serving.metrics.labels import Labels, LabelsOf
from runtime.serving.metrics.watch_metrics import watch_families
from runtime.serving.scheduler import Scheduler
from runtime.serving.statistics import Latencies
from runtime.telemetry.exposition import Collector, Family, Kind, Sample

NS = 1e9
STAGES = ("queue", "batch", "execute")
"""The stages that happen here, as fields of `Latencies`; "network" is measured by whoever asks another machine."""

DURATION = "edgeward_request_duration_seconds"
STAGE = "edgeward_request_stage_seconds"
DURATION_TEXT = "From a request's arrival in the queue to its answer."
STAGE_TEXT = "Where that time went: waiting, joining and splitting the batch, running the model, the network between two machines."


def model_metrics(local: LocalService, labels_of: LabelsOf) -> Collector:
    """The collector of a service's models."""
    return partial(_collect, local, labels_of)


async def _collect(local: LocalService, labels_of: LabelsOf) -> Sequence[Family]:
    seen = [(_labels(model, labels_of), model, scheduler) for model, scheduler in local.schedulers()]
    kept = [
        (labels, its.sorted_in())
        for labels, _, scheduler in seen
        if (its := scheduler.statistics.latencies) is not None
    ]
    return [
        Family(DURATION, Kind.HISTOGRAM, DURATION_TEXT, [(labels, its.request.read(NS)) for labels, its in kept]),
        Family(STAGE, Kind.HISTOGRAM, STAGE_TEXT, [sample for labels, its in kept for sample in _stages(labels, its)]),
        Family(
            "edgeward_batch_rows",
            Kind.HISTOGRAM,
            "Rows that ran together in one call of the model.",
            [(labels, its.batch_rows.read()) for labels, its in kept],
        ),
        *_queues([(labels, scheduler) for labels, _, scheduler in seen]),
        Family(
            "edgeward_backend_info",
            Kind.GAUGE,
            "1 for the backend that answers now.",
            [(_backend(labels, model), 1) for labels, model, _ in seen],
        ),
        Family(
            "edgeward_backend_fallbacks_total",
            Kind.COUNTER,
            "Times that a backend was left for the next one.",
            [(labels, len(model.fallbacks)) for labels, model, _ in seen],
        ),
        *watch_families([(labels, model) for labels, model, _ in seen]),
    ]


def _stages(labels: Labels, latencies: Latencies) -> list[Sample]:
    return [({**labels, "stage": stage}, getattr(latencies, stage).read(NS)) for stage in STAGES]


def _queues(seen: Sequence[tuple[Labels, Scheduler]]) -> list[Family]:
    waiting = [(labels, scheduler.waiting) for labels, scheduler in seen]
    return [
        Family(name, Kind.GAUGE, text, [(labels, values[at]) for labels, values in waiting])
        for at, (name, text) in enumerate(
            (
                ("edgeward_queue_rows", "Rows that wait before the model."),
                ("edgeward_queue_bytes", "Bytes of tensors that wait before the model."),
                ("edgeward_queue_requests", "Requests that wait before the model."),
            )
        )
    ]


def _labels(model: Model, labels_of: LabelsOf) -> Mapping[str, str]:
    return {"model": model.name, "version": str(model.version), **labels_of(model.name, str(model.version))}


def _backend(labels: Labels, model: Model) -> Labels:
    chosen = model.candidate
    return {
        **labels,
        "backend": chosen.backend.name,
        "device": chosen.backend.device,
        "variant": chosen.variant.name,
        "precision": chosen.variant.precision,
    }

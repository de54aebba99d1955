"""ModelStatistics as values, as the protocol's message and as JSON.

Triton's meaning: a time beside a count of requests is summed over requests, so that a batch of three requests adds its time three
times; a time in `batches` is summed over executions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from protos import inference

_REQUESTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
"""The times that are kept by request, as fields of `ModelStatistics` and of the protocol's message."""


@dataclass(frozen=True, slots=True)
class Spent:
    """How often something happened, and the nanoseconds it took altogether."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """All executions of batches of one size."""

    rows: int
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one version of a model has done since it was loaded."""

    name: str
    version: str
    last_inference_unix_ms: int = 0
    inference_count: int = 0
    """Rows answered."""
    execution_count: int = 0
    """Calls of the model, each for one batch."""
    success: Spent = Spent()
    """Requests answered, from arrival to answer: queue and compute."""
    fail: Spent = Spent()
    """Requests that were refused, came too late, or failed in the model."""
    queue: Spent = Spent()
    compute_input: Spent = Spent()
    compute_infer: Spent = Spent()
    compute_output: Spent = Spent()
    batches: tuple[BatchStatistics, ...] = ()
    rejected: int = 0
    """Of `fail`: the queue was full or too long for the deadline."""
    expired: int = 0
    """Of `fail`: the deadline passed."""
    cancelled: int = 0
    """The caller went away; neither success nor failure."""


def encode_statistics(models: Iterable[ModelStatistics]) -> inference.ModelStatisticsResponse:
    """The reply of ModelStatistics."""
    reply = inference.ModelStatisticsResponse()
    for model in models:
        told = reply.model_stats.add(
            name=model.name,
            version=model.version,
            last_inference=model.last_inference_unix_ms,
            inference_count=model.inference_count,
            execution_count=model.execution_count,
        )
        for name in _REQUESTS:
            spent: Spent = getattr(model, name)
            getattr(told.inference_stats, name).MergeFrom(_message(spent))
        for name in ("cache_hit", "cache_miss"):
            getattr(told.inference_stats, name).SetInParent()
        for batch in model.batches:
            told.batch_stats.add(
                batch_size=batch.rows,
                compute_input=_message(batch.compute_input),
                compute_infer=_message(batch.compute_infer),
                compute_output=_message(batch.compute_output),
            )
    return reply


def statistics_json(models: Iterable[ModelStatistics]) -> dict[str, Any]:
    """Body of `GET /v2/models/NAME/stats`."""
    return {"model_stats": [_model_json(model) for model in models]}


def _model_json(model: ModelStatistics) -> dict[str, Any]:
    none = _json(Spent())  # there is no response cache here
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": model.last_inference_unix_ms,
        "inference_count": model.inference_count,
        "execution_count": model.execution_count,
        "inference_stats": {
            **{name: _json(getattr(model, name)) for name in _REQUESTS},
            "cache_hit": none,
            "cache_miss": none,
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": batch.rows,
                "compute_input": _json(batch.compute_input),
                "compute_infer": _json(batch.compute_infer),
                "compute_output": _json(batch.compute_output),
            }
            for batch in model.batches
        ],
        "memory_usage": [],
    }


def _message(spent: Spent) -> inference.StatisticDuration:
    return inference.StatisticDuration(count=spent.count, ns=spent.ns)


def _json(spent: Spent) -> dict[str, int]:
    return {"count": spent.count, "ns": spent.ns}

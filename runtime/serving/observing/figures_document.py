"""A drift document with each served model's figures: targets, training, build, what was tried here, and live, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.engine.model import Model
from runtime.monitoring.figures import Measured, figures
from runtime.serving.local_service import LocalService
from runtime.serving.metrics.model_metrics import NS
from runtime.serving.rest.extra_route import Document
from runtime.serving.scheduler import Scheduler

P95 = 0.95


def with_figures(document: Document, local: LocalService) -> Document:
    """`document` (`drift_document`) and a list `figures` beside; asked on the event loop, where `local` counts."""

    async def tell() -> Mapping[str, Any]:
        told: Mapping[str, Any] = await document()
        seen = {(one["model"], one["version"]): one for one in told["models"]}
        labelled = {(one["model"], one["version"]): one for one in told.get("labels", {}).get("models", ())}
        return {
            **told,
            "figures": [
                {
                    "model": model.name,
                    "version": model.version,
                    "figures": _figures(
                        model, scheduler, *(of.get((model.name, model.version), {}) for of in (seen, labelled))
                    ),
                }
                for model, scheduler in local.schedulers()
            ],
        }

    return tell


def _figures(
    model: Model, scheduler: Scheduler, seen: Mapping[str, Any], labelled: Mapping[str, Any]
) -> list[dict[str, Any]]:
    latencies = scheduler.statistics.latencies
    p95_s = None if latencies is None else latencies.sorted_in().request.read(NS).quantile(P95)
    rows = model.best_batch()
    p95_here_s = model.p95_s()
    test = Measured(
        seen.get("sample_accuracy"),
        None if p95_here_s is None else p95_here_s * 1e3,
        rows / model.cost_s(rows),
    )
    live = Measured(labelled.get("accuracy"), None if p95_s is None else p95_s * 1e3)
    estimate = seen.get("estimate")
    return figures(
        model.bundle.manifest,
        model.candidate.variant.name,
        test,
        live,
        None if estimate is None else estimate["accuracy"],
    )

"""A model's figures side by side: the manifest's targets, when it was trained, built, tried here, and live. Pure.

Every figure is measured in the unit and the statistic of its target; where nobody measured it, it is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.bundle.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Measured:
    """What one place has seen of a model."""

    accuracy: float | None = None
    p95_ms: float | None = None
    """Of a request of one row, or of the requests as they come."""
    rows_per_s: float | None = None


def figures(
    manifest: Manifest | None, variant: str, test: Measured, live: Measured, estimated_accuracy: float | None
) -> list[dict[str, Any]]:
    """As JSON. `test`: the bundle's samples on what answers here, and its calibration; `live`: what is asked of it.

    `dev` is what was measured on the held-out rows when the bundle was built, of the `variant` that answers here.
    """
    targets = None if manifest is None else manifest.targets
    described = None if manifest is None else next((v for v in manifest.variants if v.name == variant), None)
    told = [
        ("accuracy", None if targets is None else targets.accuracy_floor, test.accuracy, live.accuracy),
        ("p95_latency_ms", None if targets is None else targets.p95_latency_ms, test.p95_ms, live.p95_ms),
        ("rows_per_s", None if targets is None else targets.throughput_rows_per_s, test.rows_per_s, live.rows_per_s),
    ]
    made: list[dict[str, Any]] = [
        {"figure": name, "target": target, "training": None, "dev": None, "test": _short(tried), "live": _short(seen)}
        for name, target, tried, seen in told
    ]
    made[0] |= {
        "training": _training_accuracy(manifest),
        "dev": None if described is None else described.accuracy,
        "estimated": estimated_accuracy,
    }
    return made


def _training_accuracy(manifest: Manifest | None) -> float | None:
    """As the provenance tells it, where whoever trained the model wrote it there."""
    if manifest is None:
        return None
    try:
        return float(manifest.provenance["training_accuracy"])
    except (KeyError, ValueError):
        return None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")

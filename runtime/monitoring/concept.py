"""What labels say of a model: how often it is right, and where that is less than it was, what is likely behind it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from runtime.monitoring.analysis import confusion
from runtime.monitoring.performance import LabelledPerformance, Loss
from runtime.monitoring.verdict import NEXT_STEPS, Suspect, Verdict

NEWEST: Final = 320
"""Labels that the accuracy of now is told of: known to 2 % or so where most are right."""
MISTAKES: Final = 3
MUCH_CONTRADICTED: Final = 0.05
"""Of the labels: people who label well disagree less often on one and the same answer."""

VAGUE: Final = frozenset({Suspect.COVARIATE_SHIFT, Suspect.OFFSET, Suspect.RESCALED})
"""Of several inputs that drift, one that names a cause says more than one that is only elsewhere, however clear that is."""


def describe_labelled(performance: LabelledPerformance, inputs: Sequence[Verdict]) -> dict[str, Any]:
    """As JSON. `inputs`: what drifts now of what the same model is asked."""
    right, rows = performance.reference
    newest = performance.newest(NEWEST)
    return {
        "labels": performance.labels,
        "looks": performance.looks,
        "contradictions": performance.contradictions,
        "learning": {"labels": rows} if performance.is_learning else None,
        "accuracy": _share(sum(one.is_right for one in newest), len(newest)),
        "accuracy_rows": len(newest),
        "reference": {"accuracy": _share(right, rows), "rows": rows},
        "is_worse": performance.loss is not None,
        "verdict": None if performance.loss is None else _verdict(performance, performance.loss, inputs),
    }


def _verdict(performance: LabelledPerformance, loss: Loss, inputs: Sequence[Verdict]) -> dict[str, Any]:
    suspect, why, next_step = _suspect(performance, inputs)
    part = [one for one in performance.newest(loss.rows) if one.answered_at >= loss.since]
    return {
        "suspect": suspect.value,
        "detail": f"{loss}; {why}",
        "next": next_step,
        "accuracy": round(loss.accuracy, 5),
        "reference_accuracy": round(loss.reference_accuracy, 5),
        "rows": loss.rows,
        "log10_p": round(loss.log_p / math.log(10), 2),
        "log10_limit": round(loss.log_limit / math.log(10), 2),
        "since_unix": loss.since,
        "mistakes": confusion([one.predicted for one in part], [one.label for one in part], MISTAKES),
    }


def _suspect(performance: LabelledPerformance, inputs: Sequence[Verdict]) -> tuple[Suspect, str, str]:
    """The cause that labels and inputs together point to: what changed upstream explains more than what is merely seen here."""
    changed = [verdict for verdict in inputs if verdict.role == "input"]
    if changed:
        first = min(changed, key=lambda verdict: (verdict.suspect in VAGUE, verdict.finding.log_p))
        return first.suspect, f"{first.feature} drifts too: {first.suspect} ({first.detail})", first.next_step
    if performance.contradictions > MUCH_CONTRADICTED * max(performance.labels, 1):
        told = f"{performance.contradictions} answers got two different labels beside {performance.labels} that got one"
        return Suspect.LABELS, told, NEXT_STEPS[Suspect.LABELS]
    return Suspect.CONCEPT_SHIFT, "no input drifts", NEXT_STEPS[Suspect.CONCEPT_SHIFT]


def _share(hits: int, rows: int) -> float | None:
    return round(hits / rows, 5) if rows else None

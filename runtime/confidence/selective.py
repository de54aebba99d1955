"""The threshold of a cascade: from which confidence on answers are wrong no oftener than wished, said with certainty. Pure.

Selective classification with guaranteed risk (Geifman and El-Yaniv, NeurIPS 2017): of the answers that clear the threshold, the
error rate is at most `risk`, unless the labelled rows were a draw as lucky as `delta` of all draws. They search the threshold with
a union bound over every step, which some hundred rows cannot pay for. Here thresholds of a fixed grid are tested in an order that
is fixed before the errors are seen, the safest first, until one fails: then every test may use all of `delta` (fixed sequence
testing; Angelopoulos et al., "Learn then test", 2021). Every test is an exact binomial bound.

A fifth of the rows fits the temperature and says where the order begins: at the threshold that the calibrated confidences give the
best chance to pass. The rest, which neither has seen, is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.confidence.bound import at_most, rows_needed, upper_bound
from runtime.confidence.defaults import DEFAULT_DELTA, DEFAULT_RISK
from runtime.confidence.temperature import as_logits, confidences, fit_temperature

# One number is fitted: every fifth row is enough, and the bound wants all the others.
_FIT_EVERY: Final = 5
# Finer near 1, where confident models keep most of their rows; fixed, so that it cannot follow the errors.
GRID: Final = (
    0.9999, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.94, 0.92, 0.9, 0.87, 0.85, 0.8, 0.75, 0.7,
    0.65, 0.6, 0.55, 0.5, 0.4, 0.3, 0.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold does on the rows that the thresholds are tested on."""

    threshold: float
    rows: int
    """That clear it."""
    coverage: float
    accuracy: float | None
    """Of those; None without any."""
    risk_bound: float
    """Their error rate is at most this, with certainty 1 - delta for this one threshold."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """A fitted cascade, with the table that it was chosen from."""

    temperature: float
    threshold: float | None
    """Answers of this confidence or more stand; None: no threshold could be shown to hold the risk."""
    risk: float
    delta: float
    points: tuple[Point, ...]
    why: str

    @property
    def coverage(self) -> float:
        """The share of rows that is answered without asking further."""
        return next((point.coverage for point in self.points if point.threshold == self.threshold), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "temperature": round(self.temperature, 6),
            "threshold": self.threshold,
            "coverage": round(self.coverage, 6),
            "risk": self.risk,
            "delta": self.delta,
            "why": self.why,
            "points": [
                {
                    "threshold": point.threshold,
                    "rows": point.rows,
                    "coverage": round(point.coverage, 6),
                    "accuracy": None if point.accuracy is None else round(point.accuracy, 6),
                    "risk_bound": round(point.risk_bound, 6),
                }
                for point in self.points
            ],
        }


def fit_cascade(
    scores: NDArray[Any], labels: NDArray[Any], risk: float = DEFAULT_RISK, delta: float = DEFAULT_DELTA
) -> Cascade:
    """Temperature and threshold from `scores` [row, class] (logits or probabilities) and `labels` [row], in the rows' order."""
    logits = as_logits(scores)
    is_fitted_on = np.arange(len(labels)) % _FIT_EVERY == 0
    temperature = fit_temperature(logits[is_fitted_on], labels[is_fitted_on])
    confidence = confidences(logits, temperature)
    fitted_on, confidence = confidence[is_fitted_on], confidence[~is_fitted_on]
    is_right = (logits.argmax(axis=1) == labels)[~is_fitted_on]
    points = tuple(_point(threshold, confidence, is_right, delta) for threshold in GRID)
    chosen: Point | None = None
    for point in points[_begin(fitted_on, len(confidence), risk, delta) :]:
        if point.risk_bound > risk:
            break
        chosen = point
    needed = rows_needed(risk, delta)
    return Cascade(
        temperature,
        None if chosen is None else chosen.threshold,
        risk,
        delta,
        points,
        _why(chosen, points, needed, risk),
    )


def _begin(fitted_on: NDArray[Any], rows: int, risk: float, delta: float) -> int:
    """The index in `GRID` of the threshold that is likeliest to pass among `rows` more rows like those."""
    chances = []
    for threshold in GRID:
        clearing = fitted_on[fitted_on >= threshold]
        share = len(clearing) / max(len(fitted_on), 1)
        # Rather one standard error too few: a row short of what the bound needs, and the first test fails.
        share -= float(np.sqrt(share * (1 - share) / max(len(fitted_on), 1)))
        expected = round(rows * share)
        allowed = _errors_allowed(expected, risk, delta)
        chances.append(0.0 if allowed is None else at_most(allowed, expected, float(np.mean(1.0 - clearing))))
    return int(np.argmax(chances))


def _errors_allowed(rows: int, risk: float, delta: float) -> int | None:
    """The most errors among `rows` that still show the risk; None where not even no error does."""
    if rows < rows_needed(risk, delta):
        return None
    errors = 0
    while at_most(errors + 1, rows, risk) <= delta:
        errors += 1
    return errors


def _point(threshold: float, confidence: NDArray[Any], is_right: NDArray[Any], delta: float) -> Point:
    clears = confidence >= threshold
    rows = int(clears.sum())
    right = int(is_right[clears].sum())
    return Point(
        threshold,
        rows,
        rows / max(len(confidence), 1),
        right / rows if rows else None,
        upper_bound(rows - right, rows, delta),
    )


def _why(chosen: Point | None, points: tuple[Point, ...], needed: int, risk: float) -> str:
    tested = points[-1].rows
    if chosen is not None:
        return (
            f"confidence from {chosen.threshold:g} on answers {chosen.coverage:.1%} of the rows, "
            f"{chosen.accuracy:.2%} of those right; at most {chosen.risk_bound:.2%} are wrong"
        )
    if tested < needed:
        return (
            f"{tested} rows cannot show a risk of {risk:.2%}: it takes {needed} right answers in a row; "
            "give the bundle more labelled samples, or wish for a larger risk"
        )
    lowest = min(points, key=lambda point: point.risk_bound)
    return (
        f"no threshold holds a risk of {risk:.2%}: the best, {lowest.threshold:g}, may be wrong in {lowest.risk_bound:.2%}; "
        "wish for a larger risk, or let the cloud answer everything"
    )

"""What a release plan says of a guard: one `[[guards]]` table of its TOML file."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from runtime.config import SettingsModel


class Metric(StrEnum):
    """What a guard looks at; its properties are all that the rest of a release asks of a kind."""

    ERROR_RATE = "error_rate"
    """Share of requests that fail; canary and shadow."""
    LATENCY = "latency"
    """A quantile of the latency; canary and shadow."""
    DISAGREEMENT = "disagreement"
    """Share of shadowed requests that the two answer differently."""
    OUTPUT_DRIFT = "output_drift"
    """Mean distance of the two outputs on shadowed requests, 0 to 1."""
    LOSS = "loss"
    """Mean loss against labels, paired where both arms answered."""
    BUSINESS = "business"
    """Mean of a number that the app reports, by `name`."""

    @property
    def is_between_answers(self) -> bool:
        """Whether one value compares two answers to the same request: it takes a request that both versions were given."""
        return self in (Metric.DISAGREEMENT, Metric.OUTPUT_DRIFT)

    @property
    def takes_bounds(self) -> bool:
        """Whether a plan may say between which values it lies; the others know."""
        return self in (Metric.LOSS, Metric.BUSINESS)

    @property
    def is_of_bad_predictions(self) -> bool:
        """Whether what it counts is bad whatever the evidence; of the others, such as answers that differ, only proven harm is."""
        return self in (Metric.ERROR_RATE, Metric.LOSS)

    @property
    def waits_for_labels(self) -> bool:
        """Whether every answer has to be kept until its label comes."""
        return self is Metric.LOSS


class Direction(StrEnum):
    """Which way a business metric is better."""

    LOWER_IS_BETTER = "lower_is_better"
    HIGHER_IS_BETTER = "higher_is_better"


class GuardSettings(SettingsModel):
    """One guard: it rolls back on proof of harm, and lets a stage advance on proof that there is less of it than `margin`."""

    metric: Metric
    margin: float = Field(gt=0, allow_inf_nan=False)
    """How much worse the candidate may be: a difference of rates, losses or means; for latency a share of stable's quantile (0.1:
    ten percent slower); for disagreement and output drift the rate or mean itself."""
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Harm up to here is no reason to roll back. None: zero, or the margin for disagreement and output drift, which two versions
    always have some of. By how much stable was measured to differ from itself is tolerated on top of it."""
    name: str = ""
    """Of the business metric; empty for the others."""
    direction: Direction = Direction.LOWER_IS_BETTER
    quantile: float = Field(default=0.99, gt=0, lt=1)
    """Of the latency: 0.99 for p99."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest value there can be, of a business metric or a loss; values outside are clipped. None: 0 and 1 for a
    loss; for a business metric none, and the test holds asymptotically."""
    by_segment: bool = False
    """Whether each segment is watched for harm too; half of the guard's alpha goes to them."""
    is_required: bool = True
    """Whether a stage advances only with proof of this guard; False: it only rolls back."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Its part of the release's alpha, against the other guards' weights."""

    @property
    def label(self) -> str:
        """What findings call it."""
        if self.metric is Metric.LATENCY:
            return f"latency p{100 * self.quantile:g}"
        return self.name if self.metric is Metric.BUSINESS else str(self.metric)

    @property
    def tolerated(self) -> float:
        """`tolerance`, or what None stands for."""
        if self.tolerance is not None:
            return self.tolerance
        return self.margin if self.metric.is_between_answers else 0.0

    @property
    def span(self) -> float | None:
        """The most by which two of its values can differ; None: there is no most."""
        if self.bounds is not None:
            return self.bounds[1] - self.bounds[0]
        return None if self.metric in (Metric.LATENCY, Metric.BUSINESS) else 1.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.metric is Metric.BUSINESS) != bool(self.name):
            raise ValueError("a business guard, and no other, has a name: that of the metric that the app reports")
        if self.bounds is not None:
            if not self.metric.takes_bounds:
                raise ValueError(f"bounds are for loss and business guards; {self.metric} has its own")
            low, high = self.bounds
            if not low < high:
                raise ValueError(f"bounds are {low} and {high}; expected the lower one first")
        if self.tolerated > self.margin:
            raise ValueError(f"tolerance {self.tolerance} is over the margin {self.margin}; expected at most that")
        if self.span is not None and self.margin >= self.span:
            raise ValueError(f"margin {self.margin} rules nothing out; expected less than {self.span:g}")
        return self

"""What guards are told: one value for each thing that was seen on an arm, on both, or later in a label."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Arm(StrEnum):
    """Which of a release's two versions."""

    STABLE = "stable"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Observation:
    """One request that one arm answered, or failed to answer."""

    arm: Arm
    is_error: bool
    latency_s: float
    key: str
    """The routing key, hashed: requests of one key count once in the sample-ratio check."""
    segment: str = ""
    """Empty: none."""
    is_of_stage: bool = True
    """Whether it was routed by the split of the stage that runs; what was not says nothing in it."""


@dataclass(frozen=True, slots=True)
class PairedObservation:
    """A request that both versions were given: one for its caller, the other beside it."""

    agrees: bool | None
    """None: there are no two answers that could be compared, such as one in words; only errors and latencies count."""
    distance: float
    """Between the two outputs, 0 (the same) to 1; larger ones count as 1."""
    stable_latency_s: float | None
    """None, as the candidate's then: they were not measured alike."""
    candidate_latency_s: float | None
    is_candidate_error: bool = False
    segment: str = ""
    is_stable_error: bool = False
    """Then there are no two answers to compare; only the errors count."""
    noise_agrees: bool | None = None
    """Whether stable, asked twice, agreed with itself; None, as the distance then: it was asked once."""
    noise_distance: float | None = None


@dataclass(frozen=True, slots=True)
class LabelledObservation:
    """A label came for a request: the loss of each arm that had answered it; None for an arm that had not."""

    stable_loss: float | None
    candidate_loss: float | None
    segment: str = ""


@dataclass(frozen=True, slots=True)
class MetricObservation:
    """A business metric that the app reported for a request that `arm` had answered."""

    arm: Arm
    name: str
    value: float
    segment: str = ""

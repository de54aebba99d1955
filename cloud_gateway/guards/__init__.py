"""Guards of a release: what was seen on both arms goes in, advance, hold or roll back comes out with its reason; pure."""

from cloud_gateway.guards.observations import (
    Arm,
    LabelledObservation,
    MetricObservation,
    Observation,
    PairedObservation,
)
from cloud_gateway.guards.settings import Direction, GuardSettings, Metric
from cloud_gateway.guards.verdict import Action, BadPredictions, Finding, Verdict
from cloud_gateway.guards.watch import AnyObservation, GuardWatch

__all__ = [
    "Action",
    "AnyObservation",
    "Arm",
    "BadPredictions",
    "Direction",
    "Finding",
    "GuardSettings",
    "GuardWatch",
    "LabelledObservation",
    "Metric",
    "MetricObservation",
    "Observation",
    "PairedObservation",
    "Verdict",
]

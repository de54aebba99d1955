"""The guards of one release at work: observations in, a verdict out at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from cloud_gateway.guards.observations import LabelledObservation, MetricObservation, Observation, PairedObservation
from cloud_gateway.guards.settings import GuardSettings
from cloud_gateway.guards.verdict import Verdict

AnyObservation = Observation | PairedObservation | LabelledObservation | MetricObservation


class GuardWatch:
    """All guards of a release: O(1) memory and time for each observation, no clock, no I/O; state survives as JSON."""

    def __init__(self, guards: Sequence[GuardSettings], alpha: float, planned_share: float) -> None:
        raise NotImplementedError("filled in by the next commit")

    def observe(self, observation: AnyObservation) -> None:
        """Takes one observation in."""
        raise NotImplementedError

    def judge(self) -> Verdict:
        """The verdict as of now; may be asked after every observation."""
        raise NotImplementedError

    def start_stage(self, planned_share: float) -> None:
        """From here on the candidate is to get `planned_share` of the traffic, and advancing needs fresh evidence."""
        raise NotImplementedError

    def to_state(self) -> dict[str, Any]:
        """Everything it knows, in types that JSON has."""
        raise NotImplementedError

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The watch that `to_state` was asked of."""
        raise NotImplementedError

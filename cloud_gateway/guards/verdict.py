"""What guards say: advance, hold or roll back, with the numbers that each guard has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What is to become of the stage."""

    ADVANCE = "advance"
    HOLD = "hold"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class BadPredictions:
    """How many predictions the candidate got wrong that stable would not have."""

    estimate: float
    upper: float
    """No more than so many, with the confidence of the release's alpha at any time one looks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one guard knows by now, over all requests or in one segment."""

    metric: str
    segment: str
    """Empty: all requests."""
    test: str
    """Name of the test, as in `runtime.sequential`."""
    stable_count: int
    candidate_count: int
    stable_estimate: float | None
    candidate_estimate: float | None
    difference: float | None
    """How much worse the candidate is, in the metric's unit; negative: better. None: nothing was seen."""
    lower: float | None
    upper: float | None
    """Confidence sequence of the difference; None with `lower` while nothing was seen."""
    e_worse: float
    """Evidence that the candidate is worse than tolerated; 1 is none."""
    e_fine: float
    """Evidence that the candidate is within the margin; 1 is none."""
    alpha_share: float
    """What of the release's alpha this finding may spend: alone it suffices when `e_worse` reaches 1 / alpha_share."""
    reason: str
    bad_predictions: BadPredictions | None = None
    """Of errors and losses, and of what else counts predictions where it is a reason to roll back."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and why."""

    action: Action
    reason: str
    findings: tuple[Finding, ...]
    needed: int | None
    """Requests still needed, of both arms together, when it holds for lack of evidence; an estimate. None: it does not, or nobody
    can say."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "action": str(self.action),
            "reason": self.reason,
            "findings": [asdict(finding) for finding in self.findings],
            "needed": self.needed,
        }

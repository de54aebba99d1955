"""How many bad predictions a release has served: from the guards' findings and what was counted. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloud_gateway.guards import Arm, Verdict
from cloud_gateway.release.report import ReleaseCounts


@dataclass(frozen=True, slots=True)
class Harm:
    """What the candidate did to callers."""

    answers: int
    """Requests that the candidate answered, or failed to."""
    replaced: int
    """Of those: failed, and answered by stable instead."""
    estimate: float | None
    """Predictions that it got wrong and stable would not have; None: no guard counts predictions."""
    upper: float | None
    """No more than so many, with the confidence of the release's alpha."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "candidate_answers": self.answers,
            "replaced_by_stable": self.replaced,
            "bad_predictions": self.estimate,
            "bad_predictions_at_most": self.upper,
        }

    def __str__(self) -> str:
        if not self.answers:
            return "no caller was served by the candidate"
        said = f"of {self.answers:,} requests that fell to the candidate, stable answered {self.replaced:,} instead"
        if self.estimate is None:
            return f"{said}; no guard says how many of the others were wrong, at most {self.answers - self.replaced:,}"
        most = self.answers if self.upper is None else self.upper
        return f"{said}; about {self.estimate:,.0f} bad predictions, at most {most:,.0f}"


def harm(counts: ReleaseCounts, verdict: Verdict | None) -> Harm:
    """The harm as far as it is known; of several guards that count predictions, the one that finds most."""
    candidate = counts.arms[Arm.CANDIDATE]
    found = [] if verdict is None else [f.bad_predictions for f in verdict.findings if f.bad_predictions is not None]
    if not found or not candidate.requests:
        return Harm(candidate.requests, counts.replaced, None, None)
    return Harm(
        candidate.requests, counts.replaced, max(one.estimate for one in found), max(one.upper for one in found)
    )

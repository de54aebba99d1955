"""How many requests the first stage of a plan takes, told before it begins, and what would make it fewer. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

from cloud_gateway.guards import GuardSettings, GuardWatch, Metric
from cloud_gateway.guards.comparison import Comparison
from cloud_gateway.release.plan import ReleasePlan

# Half a second of reckoning, measured; a margin that takes more comparisons than this has no figure for the best case.
MOST_COMPARISONS: Final = 5000


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The way out of the first stage; both numbers are requests to both versions together."""

    share: float
    """Of the traffic that the candidate gets, 0 to 1; 0 for a shadow."""
    if_harmless: int | None
    """Where no comparison goes against the candidate; None: not to be said for the guards of this plan."""
    about: int | None
    """Where one request in twenty fails or differs, on both versions alike; None: a guard knows no number before it has data."""
    guard: str
    """The required guard that takes the most."""
    margin: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        where = f"at {self.share * 100:g} % of the traffic" if self.share else "beside stable"
        counts = []
        if self.if_harmless is not None:
            counts.append(f"about {self.if_harmless:,} requests where nothing fails")
        if self.about is not None:
            requests = "" if counts else " requests"
            counts.append(f"about {self.about:,}{requests} where one in twenty fails on both versions")
        said = " and ".join(counts) or f"a number of requests that cannot be said before there are some ({self.guard})"
        fewer = [f"a margin over {self.margin:g}"]
        if 0 < self.share < 0.5:
            fewer.insert(0, f"a first stage over {self.share * 100:g} %")
        return f"the first stage, {where}, takes {said}; fewer with {' or '.join(fewer)} ({self.guard})"


def first_stage(plan: ReleasePlan) -> FirstStage | None:
    """None where no proof is waited for: no guard that is required."""
    share = plan.share(0)
    paired = plan.paired_share(share)
    required = [guard for guard in plan.guards if guard.is_required]
    if not required:
        return None
    watch = {guard.label: GuardWatch([guard], plan.alpha, share, paired).judge().needed for guard in required}
    slowest = max(required, key=lambda guard: watch[guard.label] or 0)
    # Of values without bounds a watch that has seen none says the least that its test takes, whatever they turn out to be.
    is_known = all(guard.metric is not Metric.BUSINESS or guard.bounds is not None for guard in required)
    harmless = [_harmless(guard, plan.alpha) for guard in required]
    per_comparison = 1.0 / (min(share, 1.0 - share) or paired)
    known = [count for count in harmless if count is not None]
    return FirstStage(
        share=share,
        if_harmless=ceil(max(known) * per_comparison) if len(known) == len(harmless) else None,
        about=watch[slowest.label] if is_known and None not in watch.values() else None,
        guard=slowest.label,
        margin=slowest.margin,
    )


def _harmless(guard: GuardSettings, alpha: float) -> int | None:
    """Comparisons without any harm until it is proven that the candidate is within the margin."""
    if guard.metric is not Metric.ERROR_RATE and not guard.metric.is_between_answers:
        return None
    comparison = Comparison(guard, "", alpha, 1.0, 0.5)
    while not comparison.is_fine:
        if comparison.count == MOST_COMPARISONS:
            return None
        if guard.metric.is_between_answers:
            comparison.observe_between(0.0)
        else:
            comparison.observe_both(0.0, 0.0)
    return comparison.count

"""How often each arm was asked and answered and why, and how requests failed: what status and metrics show.

A plain value: whoever wants to show it reads it. Used on the event loop.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from edge_agent.plan import Step, Why
from runtime.errors import EdgewardError
from runtime.wire.values import ServedBy


class Hedge(StrEnum):
    """What became of a second call beside the first."""

    SENT = "sent"
    WON = "won"
    HELD_BACK = "held_back"
    """It was time for one, but the budget was spent."""


class Counts:
    """Running totals since the agent started."""

    def __init__(self) -> None:
        self.requests = 0
        self.refused_at_once = 0
        """Requests that ended before any arm was asked."""
        self.asked: Counter[ServedBy] = Counter()
        """Calls by arm: together more than the requests by what fallbacks, hedges and trials cost."""
        self.fallbacks: Counter[Why] = Counter()
        """Requests that another arm than the wished-for one answered, by reason."""
        self.hedges: Counter[Hedge] = Counter()
        self._answered: Counter[tuple[ServedBy, Why]] = Counter()
        self._failed: Counter[str] = Counter()

    def note_answer(self, step: Step) -> None:
        """One request answered by `step`."""
        self._answered[step.arm, step.why] += 1
        if step.why.is_fallback:
            self.fallbacks[step.why] += 1

    def note_failure(self, error: EdgewardError) -> None:
        """One request that ended in `error` for its caller."""
        self._failed[type(error).__name__] += 1

    def answered(self, arm: ServedBy) -> int:
        """Requests that `arm` answered."""
        return sum(count for (served_by, _), count in self._answered.items() if served_by is arm)

    def describe(self) -> dict[str, dict[str, int]]:
        """Answers by arm and class of reason, failures by error class."""
        table: dict[str, dict[str, int]] = {arm: {} for arm in ServedBy}
        for (arm, why), count in sorted(self._answered.items()):
            table[arm][why] = count
        return {**table, "failed": dict(sorted(self._failed.items()))}

    def describe_effort(self) -> dict[str, object]:
        """What answering cost: requests, those that no arm was asked for, calls by arm, fallbacks by reason, hedges."""
        return {
            "requests": self.requests,
            "refused_at_once": self.refused_at_once,
            "asked": {str(arm): self.asked[arm] for arm in ServedBy},
            "fallbacks": {str(why): count for why, count in sorted(self.fallbacks.items())},
            "hedges": {str(what): self.hedges[what] for what in Hedge},
        }

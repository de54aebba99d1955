"""How often each arm answered and why, and how requests failed: what `agent status` shows. Used on the event loop."""

from __future__ import annotations

from collections import Counter

from edge_agent.routing import Step, Why
from runtime.errors import EdgewardError
from runtime.wire.values import ServedBy


class Counts:
    """Running totals since the agent started."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[ServedBy, Why]] = Counter()
        self._failed: Counter[str] = Counter()

    def note_answer(self, step: Step) -> None:
        """One request answered by `step`."""
        self._answered[step.arm, step.why] += 1

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

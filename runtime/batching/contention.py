"""How much longer a batch takes while others of its model run: learnt, because cores, memory and engines differ. Pure."""

from __future__ import annotations

# Each new time moves what is believed by a tenth: some thirty batches later the old belief is nearly gone.
WEIGHT = 0.1
# Each batch that runs alone forgets a hundredth: what was learnt in a bad moment must not keep batches apart for good, as batches
# that are kept apart teach nothing new.
FORGOTTEN_ALONE = 0.01
# A moment in which the machine was busy with something else says nothing of how batches get on with each other.
MAX_FACTOR = 16.0


class Contention:
    """By the number of batches that run at the same time, the factor on what one alone was measured to take."""

    def __init__(self) -> None:
        self._factors: dict[int, float] = {}

    def factor(self, running: int) -> float:
        """With `running` batches under way, itself among them; 1 for one alone, and until it is known."""
        return self._factors.get(running, 1.0)

    def learn(self, running: int, took_s: float, cost_s: float) -> None:
        """Tells what a batch took that was one of `running` when it started, and what it was measured to take alone."""
        if running < 2:
            for known, factor in self._factors.items():
                self._factors[known] = factor + FORGOTTEN_ALONE * (1.0 - factor)
        elif cost_s > 0:
            seen, before = min(max(took_s / cost_s, 1.0), MAX_FACTOR), self.factor(running)
            self._factors[running] = before + WEIGHT * (seen - before)

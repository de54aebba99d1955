"""A bench that exists only here: candidates take, fail, hang and agree as a test says, on a clock of its own."""

import random
from collections.abc import Callable

from runtime.selection.bench import LEAST_CHECKED_ROWS, Bench, CandidateFailedError, Timed, Trial
from runtime.selection.candidates import Candidate
from runtime.selection.goal import Goal
from runtime.selection.guard import GuardResult
from runtime.selection.measure import Measurement, measure
from runtime.selection.memory_use import MemoryUse
from tests.runtime.selection.fakes import candidate


def rows_checked_s(ms: float, check_s: float) -> float:
    """Eight rows, or one where those take too long: what every trial checks."""
    return (8 if 0.008 * ms <= check_s else 1) * ms / 1000


class Moments:
    """A machine that others use: for about `usual_s` at a time every call takes 1.9 times as long, or does not. Seeded."""

    def __init__(self, seed: int, usual_s: float) -> None:
        self._random = random.Random(seed)
        self._usual_s = usual_s
        self._is_busy = self._random.random() < 0.5
        self._until = 0.0

    def turn(self, ms: float, calls: int, now: float) -> list[float]:
        while now >= self._until:
            self._is_busy = not self._is_busy
            self._until += self._random.expovariate(1 / self._usual_s)
        return [ms * (1.9 if self._is_busy else 1.0) * self._random.gauss(1, 0.03) for _ in range(calls)]


class SlowOnce(Moments):
    """A machine of its own until it begins to be slow, and then for good."""

    def __init__(self) -> None:
        super().__init__(0, 1.0)
        self._factor = 1.0

    def begin(self) -> None:
        self._factor = 1.9

    def turn(self, ms: float, calls: int, now: float) -> list[float]:
        return [ms * self._factor] * calls


class FakeBench:
    """Latencies by variant name, on a clock of its own."""

    def __init__(self, ms: dict[str, float], accuracy: dict[str, float] | None = None) -> None:
        self.now = 0.0
        self.log: list[tuple[str, str, int]] = []
        self.references: list[str | None] = []
        self.fails: Callable[[str, Candidate, int], CandidateFailedError | None] = lambda what, who, rows: None
        self.ms = ms
        self.luck: dict[str, float] = {}
        """Accuracy of the first rows, of variants that are not checked on more in their trial."""
        self.loading_s = 0.0
        self.others = 1.0
        """How many times as long trials take by the clock as by the processor's: other programs run beside them."""
        self.memory: tuple[MemoryUse, ...] = (MemoryUse(1, 5.0),)
        self.memory_of: dict[str, float] = {}
        self.trial_ratio = 1.3
        """What calls of a trial take, as a share of those of a turn."""
        self.moments: Moments | None = None
        """Of turns; None: a machine of its own, where every call takes the same."""
        self.threads: dict[str, int] = {}
        """That a call keeps busy, by variant; one where it is not said."""
        self._accuracy = accuracy or {}

    def try_out(self, candidate: Candidate, reference: Candidate | None, rows: int, check_s: float) -> Trial:
        self._enter("try", candidate, rows)
        self.references.append(reference.variant.name if reference else None)
        effort_s = 0.05 + rows_checked_s(self.ms[candidate.variant.name], check_s)
        self.now += self.loading_s + effort_s * self.others
        seen = self.luck.get(candidate.variant.name, self._accuracy.get(candidate.variant.name, 1.0))
        guard = GuardResult(8, seen, 1.0, is_partial=candidate.variant.name in self.luck)
        latencies = tuple((size, (self._cost(candidate, size) * self.trial_ratio,) * 3) for size in sorted({1, rows}))
        own = self.memory_of.get(candidate.variant.name)
        memory = self.memory if own is None else (MemoryUse(1, own),)
        return Trial(guard, True, memory, latencies, (1, 8, 32), self.loading_s, effort_s)

    def check(self, candidate: Candidate, reference: Candidate | None, within_s: float) -> GuardResult:
        self._enter("check", candidate, 64)
        row_s = self.ms[candidate.variant.name] / 1000
        rows = min(64, max(LEAST_CHECKED_ROWS, int(within_s / row_s)))
        self.now += rows * row_s
        return GuardResult(rows, self._accuracy.get(candidate.variant.name, 1.0), 1.0, is_partial=rows < 64)

    def time(self, candidate: Candidate, rows: int, duration_s: float) -> Timed:
        self._enter("time", candidate, rows)
        ms = self._cost(candidate, rows)
        calls = max(1, int(1000 * duration_s / ms))
        taken = [ms] * calls if self.moments is None else self.moments.turn(ms, calls, self.now)
        self.now += sum(taken) / 1000
        return Timed(tuple(taken), self.threads.get(candidate.variant.name, 1) * sum(taken) / len(taken))

    def close(self) -> None:
        pass

    def _enter(self, what: str, candidate: Candidate, rows: int) -> None:
        self.log.append((what, candidate.variant.name, rows))
        if (error := self.fails(what, candidate, rows)) is not None:
            raise error

    def _cost(self, candidate: Candidate, rows: int) -> float:
        return self.ms[candidate.variant.name] * rows**0.8


def run(bench: FakeBench, names: list[str], goal: Goal | None = None, budget_s: float = 3.0) -> Measurement:
    candidates = [candidate(name) for name in names]
    checked: Bench = bench
    return measure(
        checked, candidates, names[0], goal or Goal(), budget_s, 0, lambda: bench.now, lambda what, share: None
    )

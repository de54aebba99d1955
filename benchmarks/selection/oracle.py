"""The exhaustive oracle: every candidate that may run, measured long and interleaved; then the chosen one against the best.

The best of many noisy figures is partly lucky. So the oracle's word is not taken for the regret: its best and the chosen one
are measured once more, as interleaved pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from runtime.backends.registry import all_backends
from runtime.bundle.bundle import Bundle
from runtime.hardware import probe
from runtime.selection.bench import WHOLE_S, Bench, CandidateFailedError
from runtime.selection.candidates import Candidate, enumerate_candidates
from runtime.selection.choice import Choice
from runtime.selection.decide import why_wrong
from runtime.selection.settings import REGISTRY
from runtime.selection.trial import IsolatedBench
from runtime.selection.trying import UNTRIED

TIMEOUT_S = 60.0
WORTH_MEASURING_ON = 1.5
"""Who takes so many times the best one's time after `SORTING_TURNS` turns cannot be the best any more."""
SORTING_TURNS = 3


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured."""

    turn_s: float
    turns: int
    """Of every candidate, interleaved."""
    pairs: int
    """Of the chosen one and the best."""


FULL = Effort(turn_s=0.1, turns=12, pairs=16)
QUICK = Effort(turn_s=0.04, turns=6, pairs=8)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle found."""

    best: str
    ms_by_candidate: dict[str, float]
    """Median of the turns' medians."""
    pairs: tuple[tuple[float, float], ...]
    """Milliseconds of the chosen one and of the best, turn by turn; empty when they are the same."""

    @property
    def regret(self) -> float:
        """By how much the chosen one is slower than the best, as a share; 0 when it is the best, or no slower."""
        return max(0.0, median(chosen / best for chosen, best in self.pairs) - 1) if self.pairs else 0.0


def consult(bundle: Bundle, choice: Choice, effort: Effort, seed: int) -> Verdict:
    """Measures in a process of its own, as selection does; also whom selection left untried for want of time."""
    bench = IsolatedBench(bundle, REGISTRY, seed, TIMEOUT_S, None)
    try:
        candidates = {ranked.candidate.key: ranked.candidate for ranked in choice.ranked}
        untried = {candidate.key: candidate for candidate in _untried(bundle, choice)}
        turns = _interleave(bench, [*candidates.values(), *untried.values()], effort, random.Random(seed))
        ms = {key: median(found) for key, found in turns.items() if found}
        floor = None if bundle.manifest is None else bundle.manifest.targets.accuracy_floor
        while (best := min(ms, key=lambda key: ms[key])) in untried and not _is_right(bench, untried[best], floor):
            del ms[best]
        chosen = choice.selected.candidate
        other = candidates.get(best) or untried[best]
        pairs = [] if best == chosen.key else _pairs(bench, chosen, other, effort)
        return Verdict(best, ms, tuple(pairs))
    finally:
        bench.close()


def _untried(bundle: Bundle, choice: Choice) -> list[Candidate]:
    everyone, _ = enumerate_candidates(bundle, probe(), all_backends())
    left = {(r.variant, r.backend, r.options) for r in choice.rejected if r.reason.startswith(UNTRIED)}
    return [c for c in everyone if (*c.pair, str(c.options)) in left]


def _is_right(bench: Bench, candidate: Candidate, floor: float | None) -> bool:
    try:
        return why_wrong(bench.check(candidate, None, WHOLE_S), floor) is None
    except CandidateFailedError:
        return False


def _interleave(
    bench: Bench, candidates: Sequence[Candidate], effort: Effort, generator: random.Random
) -> dict[str, list[float]]:
    turns: dict[str, list[float]] = {candidate.key: [] for candidate in candidates}
    going = list(candidates)
    for turn in range(effort.turns):
        for candidate in generator.sample(going, len(going)):
            try:
                turns[candidate.key].append(median(bench.time(candidate, 1, effort.turn_s).latencies_ms))
            except CandidateFailedError:
                going.remove(candidate)
        if turn + 1 == SORTING_TURNS:
            bound = WORTH_MEASURING_ON * min(median(turns[c.key]) for c in going)
            going = [c for c in going if median(turns[c.key]) <= bound]
    return turns


def _pairs(bench: Bench, chosen: Candidate, best: Candidate, effort: Effort) -> list[tuple[float, float]]:
    pairs = []
    for turn in range(effort.pairs):
        order = (chosen, best) if turn % 2 else (best, chosen)
        took = {candidate.key: median(bench.time(candidate, 1, effort.turn_s).latencies_ms) for candidate in order}
        pairs.append((took[chosen.key], took[best.key]))
    return pairs

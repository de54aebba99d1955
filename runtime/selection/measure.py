"""Carries a measurement out on a bench: a trial of each candidate, rounds with halving, batch sizes for the best.

Decides nothing itself: whom to time is `halving`'s word, who may run `decide`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.selection.bench import Bench, CandidateFailedError, Trial
from runtime.selection.candidates import Candidate, Rejected, rejected_because
from runtime.selection.decide import Goal, Measured, rank, refusal
from runtime.selection.halving import Halving
from runtime.selection.latency import Latency, summarise
from runtime.selection.memory_use import most_rows
from runtime.selection.rows import BATCH_SIZES
from runtime.selection.settings import Objective

log = logging.getLogger(__name__)

FAR_BEHIND: Final = 2.5
"""Who took so many times the fastest one's time in the trial, best call against best call, is not timed further."""
SWEEP_SHARE: Final = 0.2
"""Of the budget, for the other batch sizes of the best ones."""
SWEPT: Final = 2
"""The best, and the one that takes over should its answers prove wrong."""

Progress = Callable[[str, float], None]
"""What is being done, and the share of the work that is behind (0 to 1)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What all candidates showed."""

    measured: tuple[Measured, ...]
    rejected: tuple[Rejected, ...]
    is_sampled: bool
    trial_s: float
    measuring_s: float


def measure(
    bench: Bench,
    candidates: Sequence[Candidate],
    reference: str,
    goal: Goal,
    budget_s: float,
    seed: int,
    clock: Callable[[], float],
    progress: Progress,
) -> Measurement:
    """Every candidate tried, the promising ones timed within `budget_s`, the best swept over batch sizes.

    `reference` is the name of the variant that answers are compared with. A candidate that fails costs only itself.
    """
    start = clock()
    rows = BATCH_SIZES[-1] if goal.objective is Objective.THROUGHPUT else 1
    trials, rejected = _try_all(bench, candidates, reference, rows, progress)
    tried = clock()
    measured = {candidate.key: _from_trial(candidate, trial, rows) for candidate, trial in trials}
    fit = {key: m for key, m in measured.items() if refusal(m, goal) is None}
    if fit:
        sweep_s = SWEEP_SHARE * budget_s
        best_ms = {c.key: min(dict(trial.latencies)[measured[c.key].rows]) for c, trial in trials}
        rejected += _time_in_rounds(bench, measured, fit, best_ms, budget_s - sweep_s, seed, clock, progress)
        sizes = {candidate.key: trial.batch_sizes for candidate, trial in trials}
        _sweep(bench, measured, sizes, goal, clock() + sweep_s, clock, progress)
    is_sampled = any(trial.is_sampled for _, trial in trials)
    return Measurement(tuple(measured.values()), tuple(rejected), is_sampled, tried - start, clock() - tried)


def _try_all(
    bench: Bench, candidates: Sequence[Candidate], reference: str, rows: int, progress: Progress
) -> tuple[list[tuple[Candidate, Trial]], list[Rejected]]:
    trials: list[tuple[Candidate, Trial]] = []
    rejected: list[Rejected] = []
    hung: dict[tuple[str, str], str] = {}
    standard: Candidate | None = None
    # The reference goes first: the others are compared with it.
    for at, candidate in enumerate(sorted(candidates, key=lambda c: c.variant.name != reference)):
        progress(f"trying {candidate}", 0.5 * at / len(candidates))
        if candidate.pair in hung:
            rejected.append(rejected_because(candidate, f"not tried, since {hung[candidate.pair]} hung"))
            continue
        if standard is None and candidate.variant.name == reference:
            standard_now: Candidate | None = candidate
        else:
            standard_now = standard
        try:
            trials.append((candidate, bench.try_out(candidate, standard_now, rows)))
            standard = standard_now
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", candidate, error)
            rejected.append(rejected_because(candidate, str(error)))
            if error.is_hang:
                hung[candidate.pair] = str(candidate.options)
    return trials, rejected


def _from_trial(candidate: Candidate, trial: Trial, rows: int) -> Measured:
    latencies = tuple((size, summarise([calls])) for size, calls in trial.latencies)
    compared = rows if any(size == rows for size, _ in latencies) else latencies[0][0]
    return Measured(candidate, latencies, compared, trial.guard, trial.memory)


def _time_in_rounds(
    bench: Bench,
    measured: dict[str, Measured],
    fit: dict[str, Measured],
    best_ms: dict[str, float],
    budget_s: float,
    seed: int,
    clock: Callable[[], float],
    progress: Progress,
) -> list[Rejected]:
    """Replaces the trial's figures of those in `fit` by measured ones; who fails leaves `measured` with its reason."""
    # The best call of the trial, not its median: what disturbs a call only ever makes it slower.
    fastest_ms = min(best_ms[key] for key in fit)
    rough_ms = {key: best_ms[key] for key in fit if best_ms[key] <= FAR_BEHIND * fastest_ms}
    start = clock()
    halving = Halving(rough_ms, budget_s, seed, start)
    rounds: dict[str, int] = {}
    rejected: list[Rejected] = []
    while (turn := halving.next(clock())) is not None:
        candidate = fit[turn.key].candidate
        progress(f"measuring {candidate}", 0.5 + 0.4 * min(1.0, (clock() - start) / budget_s))
        try:
            halving.record(turn, bench.time(candidate, fit[turn.key].rows, turn.duration_s))
            rounds[turn.key] = turn.round
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", candidate, error)
            halving.fail(turn.key)
            rounds.pop(turn.key, None)
            del measured[turn.key]
            rejected.append(rejected_because(candidate, str(error)))
    for key, last_round in rounds.items():
        latency = summarise(halving.turns_of(key))
        measured[key] = replace(_with_latency(measured[key], measured[key].rows, latency), rounds=last_round)
    return rejected


def _sweep(
    bench: Bench,
    measured: dict[str, Measured],
    sizes: dict[str, tuple[int, ...]],
    goal: Goal,
    deadline: float,
    clock: Callable[[], float],
    progress: Progress,
) -> None:
    """Times the best at the other batch sizes, as far as the memory cap allows and one call of each fits before the deadline."""
    fit = [m for m in measured.values() if refusal(m, goal) is None]
    if not fit:
        return
    todo = [
        (m.candidate, size)
        for m in _worth_sweeping(rank(fit, goal)[0])
        for size in sizes[m.candidate.key]
        if size != m.rows and size <= (most_rows(m.memory, goal.memory_cap_mb) or size)
    ]
    for at, (candidate, size) in enumerate(todo):
        progress(f"measuring {candidate} in batches of {size}", 0.9 + 0.1 * at / len(todo))
        left_s = deadline - clock()
        # Two calls at least: one to warm up, one that counts.
        if 2 * measured[candidate.key].cost.cost_ms(size) / 1000 > left_s:
            continue
        try:
            calls = bench.time(candidate, size, left_s / (len(todo) - at) / 2)
        except CandidateFailedError as error:
            log.warning("candidate %s failed with %d rows; its cost there is extrapolated: %s", candidate, size, error)
            continue
        measured[candidate.key] = _with_latency(measured[candidate.key], size, summarise([calls]))


def _worth_sweeping(order: Sequence[Measured]) -> list[Measured]:
    """The best ones of the ranking, and of every device the best: it takes over when those before it lose theirs."""
    firsts: dict[str, Measured] = {}
    for m in order:
        firsts.setdefault(m.candidate.backend.device, m)
    return [*order[:SWEPT], *(m for m in firsts.values() if m not in order[:SWEPT])]


def _with_latency(measured: Measured, rows: int, latency: Latency) -> Measured:
    return replace(measured, latencies=tuple(sorted({**dict(measured.latencies), rows: latency}.items())))

"""Carries a measurement out on a bench: a trial of each candidate, rounds with halving, batch sizes for the best.

Decides nothing itself: whom to time is `halving`'s word, who may run `decide`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.selection.bench import MIN_GUARD_ROWS, WHOLE_S, Bench, CandidateFailedError, Timed, Trial, mean_busy_ms
from runtime.selection.candidates import Candidate, Rejected, rejected_because
from runtime.selection.decide import may_be_fit, nearest_targets, rank, refusal
from runtime.selection.efficiency import BATCH, quick_alone
from runtime.selection.goal import Goal
from runtime.selection.halving import TURN_S, Halving
from runtime.selection.in_batches import time_in_batches
from runtime.selection.latency import MIN_TURNS, summarise
from runtime.selection.measured import Measured
from runtime.selection.memory_use import most_rows
from runtime.selection.rows import BATCH_SIZES
from runtime.selection.settings import Objective
from runtime.selection.side_by_side import told_later
from runtime.selection.trying import FAR_BEHIND, PROMISE, Progress, best_ms, try_all

log = logging.getLogger(__name__)

SWEEP_SHARE: Final = 0.2
"""Of the budget, for the other batch sizes of the best ones."""
BATCHES_SHARE: Final = 0.2
"""Of the budget, for batches of those about as fast as the fastest, where the objective is efficiency."""
LEAST_CHECK_SHARE: Final = 0.1
"""Of the budget, for checking the answers of whoever is to be chosen, however long the rest took."""
LEAST_ROUNDS_SHARE: Final = 0.1
"""Of the budget, for measuring in rounds, however long the trials took."""
SWEPT: Final = 2
"""The best, and the one that takes over should its answers prove wrong."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What all candidates showed."""

    measured: tuple[Measured, ...]
    rejected: tuple[Rejected, ...]
    is_sampled: bool
    trial_s: float
    measuring_s: float
    loading_s: float = 0.0
    """Before and among the trials: what engines and the process took to load; not in `trial_s`."""
    untried: int = 0
    """Candidates for which the budget left no time."""


def measure(
    bench: Bench,
    candidates: Sequence[Candidate],
    reference: str | None,
    goal: Goal,
    budget_s: float,
    seed: int,
    clock: Callable[[], float],
    progress: Progress,
    promise: Mapping[str, int] = PROMISE,
) -> Measurement:
    """Candidates tried, the promising ones timed, the winner checked in full, the best swept over batches: all in `budget_s`.

    `reference` is the name of the variant that answers are compared with, None where its answers are in the bundle. A candidate
    that fails costs only itself. `promise`: of precisions on this processor, see `order_of_trying`.
    """
    start = clock()
    rows = BATCH_SIZES[-1] if goal.objective is Objective.THROUGHPUT else 1

    def may_be_right(candidate: Candidate, trial: Trial) -> bool:
        return may_be_fit(_from_trial(candidate, trial, rows), goal)

    tried = try_all(bench, candidates, reference, rows, budget_s, clock, progress, may_be_right, promise)
    after = clock()
    trial_s = after - start - tried.loading_s - tried.lost_s
    rejected = tried.rejected
    measured = {candidate.key: _from_trial(candidate, trial, rows) for candidate, trial in tried.trials}
    fit = {key: m for key, m in measured.items() if may_be_fit(m, goal)}
    if fit:
        best = {candidate.key: best_ms(trial, measured[candidate.key].rows) for candidate, trial in tried.trials}
        sweep_s = SWEEP_SHARE * budget_s
        batches_s = BATCHES_SHARE * budget_s if goal.objective is Objective.EFFICIENCY else 0.0
        kept_s = sweep_s + batches_s + _whole_check_s(fit, best)
        rounds_s = max(budget_s - trial_s - kept_s, LEAST_ROUNDS_SHARE * budget_s)
        rejected += _time_in_rounds(bench, measured, fit, best, rounds_s, seed, clock, progress)
        rejected += _time_winners(bench, measured, goal, sweep_s, clock)
        sizes = {candidate.key: trial.batch_sizes for candidate, trial in tried.trials}
        if goal.objective is Objective.EFFICIENCY:
            rejected += _time_in_batches(bench, measured, sizes, goal, batches_s, clock)
        end = after + budget_s - trial_s
        check_s = min(WHOLE_S, max(end - sweep_s - clock(), LEAST_CHECK_SHARE * budget_s))
        rejected += _confirm(bench, measured, tried.standard, goal, check_s)
        _sweep(bench, measured, sizes, goal, max(end, clock() + sweep_s / 4), clock, progress)
    is_sampled = any(trial.is_sampled for _, trial in tried.trials)
    return Measurement(
        tuple(measured.values()),
        tuple(rejected),
        is_sampled,
        trial_s,
        clock() - after,
        tried.loading_s,
        tried.untried,
    )


def _whole_check_s(fit: dict[str, Measured], best: dict[str, float]) -> float:
    """About what checking the winner in full will take; nothing where it was done in the trial."""
    winner = min(fit, key=lambda key: best[key])
    if not fit[winner].guard.is_partial:
        return 0.0
    return min(WHOLE_S, MIN_GUARD_ROWS * best[winner] / fit[winner].rows / 1000)


def _confirm(
    bench: Bench, measured: dict[str, Measured], reference: Candidate | None, goal: Goal, check_s: float
) -> list[Rejected]:
    """Has the winner's answers checked for `check_s`, and the next one's where they are wrong, until one is right."""
    rejected: list[Rejected] = []
    checked: set[object] = set()

    def may_win(m: Measured) -> bool:
        # Of who was checked here no more will be seen: what the shares are, they are.
        return refusal(m, goal) is None if m.candidate.computes in checked else may_be_fit(m, goal)

    while fit := [m for m in measured.values() if may_win(m)]:
        winner = rank(fit, goal)[0][0]
        if not winner.guard.is_partial or winner.candidate.computes in checked:
            break
        try:
            guard = bench.check(winner.candidate, reference, check_s)
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", winner.candidate, error)
            del measured[winner.candidate.key]
            rejected.append(rejected_because(winner.candidate, str(error)))
            continue
        checked.add(winner.candidate.computes)
        for key, m in measured.items():
            if m.candidate.computes == winner.candidate.computes:
                measured[key] = replace(m, guard=guard)
    return rejected


def _from_trial(candidate: Candidate, trial: Trial, rows: int) -> Measured:
    latencies = tuple((size, summarise([calls])) for size, calls in trial.latencies)
    compared = rows if any(size == rows for size, _ in latencies) else latencies[0][0]
    return Measured(candidate, latencies, compared, trial.guard, trial.memory)


def _time_in_rounds(
    bench: Bench,
    measured: dict[str, Measured],
    fit: dict[str, Measured],
    best: dict[str, float],
    budget_s: float,
    seed: int,
    clock: Callable[[], float],
    progress: Progress,
) -> list[Rejected]:
    """Replaces the trial's figures of those in `fit` by measured ones; who fails leaves `measured` with its reason."""
    fastest_ms = min(best[key] for key in fit)
    rough_ms = {key: best[key] for key in fit if best[key] <= FAR_BEHIND * fastest_ms}
    start = clock()
    halving = Halving(rough_ms, budget_s, seed, start)
    last_round: dict[str, int] = {}
    turns: dict[str, list[Timed]] = {}
    rejected: list[Rejected] = []
    while (turn := halving.next(clock())) is not None:
        candidate = fit[turn.key].candidate
        progress(f"measuring {candidate}", 0.5 + 0.4 * min(1.0, (clock() - start) / budget_s))
        try:
            timed = bench.time(candidate, fit[turn.key].rows, turn.duration_s)
            halving.record(turn, timed.latencies_ms)
            turns.setdefault(turn.key, []).append(timed)
            last_round[turn.key] = turn.round
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", candidate, error)
            halving.fail(turn.key)
            del measured[turn.key]
            rejected.append(rejected_because(candidate, str(error)))
    for key, (latency, lag_error) in halving.figures().items():
        rows = measured[key].rows
        told = measured[key].with_latency(rows, latency).with_busy(rows, mean_busy_ms(turns[key]))
        measured[key] = replace(told, rounds=last_round[key], lag_error=lag_error)
    return rejected


def _time_in_batches(
    bench: Bench,
    measured: dict[str, Measured],
    sizes: Mapping[str, Sequence[int]],
    goal: Goal,
    budget_s: float,
    clock: Callable[[], float],
) -> list[Rejected]:
    """Adds batches to those that efficiency is decided among; who fails in them leaves `measured` with its reason."""
    quick = quick_alone(nearest_targets([m for m in measured.values() if may_be_fit(m, goal)], goal))
    if not all(_may_gather(m, sizes, goal) for m in quick):
        return []
    told, rejected = time_in_batches(bench, quick, budget_s, clock)
    for m in quick:
        if m.candidate.key in told:
            measured[m.candidate.key] = told[m.candidate.key]
        else:
            del measured[m.candidate.key]
    return rejected


def _may_gather(m: Measured, sizes: Mapping[str, Sequence[int]], goal: Goal) -> bool:
    """Whether it takes batches of `BATCH`, under the memory cap."""
    return BATCH in sizes[m.candidate.key] and (most_rows(m.memory, goal.memory_cap_mb) or BATCH) >= BATCH


def _time_winners(
    bench: Bench, measured: dict[str, Measured], goal: Goal, budget_s: float, clock: Callable[[], float]
) -> list[Rejected]:
    """Times whoever would win without having been in the rounds, which are for the fastest: for its memory, or a target it meets.

    A few calls of its trial are no p95, and no cost to plan by. It takes turns with the fastest of the rounds, and is told as if it
    had been in them: the machine may have another moment now. What it then shows may make another one win.
    """
    rejected: list[Rejected] = []
    end = clock() + budget_s
    in_rounds = [m for m in measured.values() if m.rounds]
    fastest = min(in_rounds, key=lambda m: m.latency.median_ms, default=None)
    while clock() < end and (fit := [m for m in measured.values() if may_be_fit(m, goal)]):
        winner = rank(fit, goal)[0][0]
        if winner.rounds:
            break
        turns: list[Timed] = []
        beside: list[Timed] = []
        try:
            while len(turns) < MIN_TURNS and (not turns or clock() < end):
                turns.append(bench.time(winner.candidate, winner.rows, TURN_S))
                if fastest is not None:
                    beside += _turn_beside(bench, fastest)
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", winner.candidate, error)
            del measured[winner.candidate.key]
            rejected.append(rejected_because(winner.candidate, str(error)))
            continue
        own = [timed.latencies_ms for timed in turns]
        latency, lag_error = summarise(own), None
        if fastest is not None and len(beside) == len(turns):
            others = [timed.latencies_ms for timed in beside]
            latency, lag_error = told_later(own, others, fastest.latency.median_ms)
        told = winner.with_latency(winner.rows, latency).with_busy(winner.rows, mean_busy_ms(turns))
        measured[winner.candidate.key] = replace(told, rounds=1, lag_error=lag_error)
    return rejected


def _turn_beside(bench: Bench, fastest: Measured) -> list[Timed]:
    """A turn of who was timed already; none where it fails, which whoever runs it next will find."""
    try:
        return [bench.time(fastest.candidate, fastest.rows, TURN_S)]
    except CandidateFailedError as error:
        log.info("candidate %s could not be timed again: %s", fastest.candidate, error)
        return []


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
        if size not in (m.rows, *dict(m.busy)) and size <= (most_rows(m.memory, goal.memory_cap_mb) or size)
    ]
    for at, (candidate, size) in enumerate(todo):
        progress(f"measuring {candidate} in batches of {size}", 0.9 + 0.1 * at / len(todo))
        left_s = deadline - clock()
        # Two calls at least: one to warm up, one that counts.
        if 2 * measured[candidate.key].cost.cost_ms(size) / 1000 > left_s:
            continue
        try:
            calls = bench.time(candidate, size, left_s / (len(todo) - at) / 2).latencies_ms
        except CandidateFailedError as error:
            log.warning("candidate %s failed with %d rows; its cost there is extrapolated: %s", candidate, size, error)
            continue
        measured[candidate.key] = measured[candidate.key].with_latency(size, summarise([calls]))


def _worth_sweeping(order: Sequence[Measured]) -> list[Measured]:
    """The best ones of the ranking, and of every device the best: it takes over when those before it lose theirs."""
    firsts: dict[str, Measured] = {}
    for m in order:
        firsts.setdefault(m.candidate.backend.device, m)
    return [*order[:SWEPT], *(m for m in firsts.values() if m not in order[:SWEPT])]

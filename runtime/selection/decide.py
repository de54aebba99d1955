"""Which candidate to run, and why each other one is not: values in, a `Choice` with reasons out. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.bundle.manifest import Targets
from runtime.errors import NoCandidateError
from runtime.selection.candidates import CPU, Rejected, rejected_because
from runtime.selection.choice import Choice, Ranked
from runtime.selection.efficiency import Frugal, most_frugal
from runtime.selection.goal import Goal
from runtime.selection.guard import GuardResult
from runtime.selection.latency import show_ms
from runtime.selection.measured import Measured
from runtime.selection.memory_use import most_rows, use_at
from runtime.selection.settings import Objective

DEFAULT_AGREEMENT: Final = 0.9
"""Where no floor is given. A judgement, not a measurement: quantised variants differ in some answers, broken ones in most."""
AGREEMENT_BESIDE_ACCURACY: Final = 0.75
"""Where accuracy holds a floor, agreement has only to show that nothing else broke. Honest int8 of a hard task differs from its
source in one answer of six or seven while it is as often right; confidences or an output that are garbage disagree in most rows."""
MAX_NOISE: Final = 0.02
"""Candidates that differ by more are never taken for equal, but for `MAX_NOISE_OF_THREADS`: the two bound the regret of a tie. On
fewer threads so much always counts as equal: the others are left to what else runs, above all the server around the model."""
MAX_NOISE_OF_THREADS: Final = 0.03
"""On fewer threads also this counts as equal, where the two cannot be told apart: what makes a machine unstable is mostly
neighbours that take cores, and who needs one core is slowed by them less often. No more than a choice may lose to an engine's own
defaults (0.97 ×), which take all cores."""
APART_ERRORS: Final = 2.0
"""Standard errors of their ratio within which two are not told apart (one time in 20 by chance)."""
MEMORY_NOISE_MB: Final = 1.0
"""Allocators round up and keep pages; growth that differs by less is the same."""
UNSTABLE_SPREAD: Final = 0.15
"""Spread of the repeats beyond which figures are doubted aloud: seven times the largest difference called a tie."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which bundle a choice is for, and how its answers were checked."""

    bundle: str
    version: int
    guard: str
    source: str = "MODEL"
    """What to call the bundle by on the command line."""


def decide(measured: Sequence[Measured], rejected: Sequence[Rejected], goal: Goal, origin: Origin) -> Choice:
    """The ranking with a sentence for everyone; `NoCandidateError`, with every reason, when nothing may run.

    Among those as good as the best (within the noise, or on fewer threads nearly so), the more
    accurate wins, then the one with fewer threads; of equal memory, the faster. For efficiency see `most_frugal`.
    """
    refused = [rejected_because(m.candidate, reason) for m in measured if (reason := refusal(m, goal)) is not None]
    fit = [m for m in measured if refusal(m, goal) is None]
    out = (*refused, *rejected)
    worth_telling = [r for r in out if not r.is_misfit] or out
    if not fit:
        reasons = "".join(f"\n  {text}" for text in _told_once(worth_telling)) or "\n  (there was no candidate at all)"
        raise NoCandidateError(
            f"nothing can run bundle {origin.bundle!r} version {origin.version} on this machine"
            + (
                f" and be right enough; install a backend, lower the floor or raise the memory cap:{reasons}"
                if refused
                else f"; install a backend that can, or give a model that one of these can open:{reasons}"
            )
        )
    order, tied = rank(fit, goal)
    chosen = order[0]
    frugal = _frugal(order, goal)
    sentences = [_chosen_sentence(chosen, len(fit), goal, frugal)]
    sentences += [_other_sentence(m, chosen, m.candidate.key in tied, goal, frugal) for m in order[1:]]
    ranked = tuple(
        Ranked(
            m.candidate,
            m.latency,
            m.rows,
            m.cost,
            m.guard.accuracy,
            m.guard.agreement,
            m.memory_mb,
            sentence,
            most_rows(m.memory, goal.memory_cap_mb),
            m.guard.confidence_error,
            m.memory,
            m.busy,
        )
        for m, sentence in zip(order, sentences, strict=True)
    )
    missed, unstable = _missed_text(chosen, goal), _unstable_text(chosen, origin.source)
    choice = Choice(origin.bundle, origin.version, goal.objective, ranked, out, origin.guard)
    return replace(choice.with_warnings(missed), doubts=() if unstable is None else (unstable,))


def refusal(measured: Measured, goal: Goal) -> str | None:
    """Why the candidate may not run, whatever its speed; None when it may."""
    wrong = why_wrong(measured.guard, goal.accuracy_floor, goal.agreement_floor)
    if wrong is not None:
        return wrong
    use = use_at(measured.memory, measured.rows)
    excess = None if use is None or goal.memory_cap_mb is None else use.excess(goal.memory_cap_mb)
    return None if excess is None else f"it takes {excess}"


def may_be_fit(measured: Measured, goal: Goal) -> bool:
    """Whether it may run, or may yet prove right when more of its answers are compared."""
    return refusal(replace(measured, guard=measured.guard.at_best()), goal) is None


def why_wrong(guard: GuardResult, floor: float | None, agreement_floor: float | None = None) -> str | None:
    """Why answers are not right enough for `floor`; None when they are.

    Without labels the floor holds for agreement; with them a looser bound does, never above the floor. `agreement_floor` stands in
    place of either.
    """
    if guard.problem is not None:
        return guard.problem
    needed = DEFAULT_AGREEMENT if floor is None else floor
    if floor is not None and guard.accuracy is not None:
        if guard.accuracy < floor:
            return f"{_percent(guard.accuracy)} is below the floor {_percent(floor)}"
        needed = min(AGREEMENT_BESIDE_ACCURACY, floor)
    needed = needed if agreement_floor is None else agreement_floor
    if guard.agreement is None or guard.agreement >= needed:
        return None
    off = (
        ""
        if guard.confidence_error is None
        else f" (its confidences are off by {guard.confidence_error:.2f} on average)"
    )
    return (
        f"its answers agree with the reference's in {_percent(guard.agreement)} of {guard.rows} rows{off}; "
        f"at least {_percent(needed)} must"
    )


def rank(fit: Sequence[Measured], goal: Goal) -> tuple[list[Measured], set[str]]:
    """The candidates in order, and the keys of those as good as the best: within the noise, or on fewer threads nearly so.

    After the best they stand by what is made small; by their latency where that is efficiency.
    """
    value = _value_of(goal.objective)
    order = sorted(fit, key=lambda m: (_missed(m, goal), value(m), m.latency.median_ms))
    best = order[0]
    frugal = _frugal(order, goal)
    if frugal is not None:
        ties = list(frugal.ties)
    else:
        ties = [m for m in nearest_targets(order, goal) if _is_tied(m, best, goal.objective)]
    if goal.objective is Objective.MEMORY:
        winner = rank(ties, replace(goal, objective=Objective.LATENCY))[0][0]
    else:
        winner = min(ties, key=lambda m: (-_rightness(m), m.candidate.options.threads, value(m)))
    return [winner, *(m for m in order if m is not winner)], {m.candidate.key for m in ties}


def nearest_targets(fit: Sequence[Measured], goal: Goal) -> list[Measured]:
    """Those that miss the fewest targets, in their order: one of them is chosen."""
    least = min((_missed(m, goal) for m in fit), default=0)
    return [m for m in fit if _missed(m, goal) == least]


def _frugal(order: Sequence[Measured], goal: Goal) -> Frugal | None:
    """Who is to be chosen for efficiency; None for another objective, or where nobody took turns: then latency decides."""
    return most_frugal(nearest_targets(order, goal)) if goal.objective is Objective.EFFICIENCY else None


def _value_of(objective: Objective) -> Callable[[Measured], float]:
    """What is made small."""
    if objective is Objective.MEMORY:
        return lambda m: float("inf") if m.memory_mb is None else m.memory_mb
    return lambda m: m.latency.median_ms / m.rows


def _is_tied(measured: Measured, best: Measured, objective: Objective) -> bool:
    if measured is best:
        return True
    if objective is Objective.MEMORY:
        if measured.memory_mb is None or best.memory_mb is None:
            return False
        return measured.memory_mb - best.memory_mb <= MEMORY_NOISE_MB
    error = _error_of_ratio(measured, best)
    noise = min(MAX_NOISE, error)
    if measured.candidate.options.threads < best.candidate.options.threads:
        noise = max(MAX_NOISE, min(MAX_NOISE_OF_THREADS, APART_ERRORS * error))
    return abs(measured.latency.median_ms / best.latency.median_ms - 1) <= noise


def _error_of_ratio(one: Measured, other: Measured) -> float:
    """The standard error of how many times as long one takes: of who took turns from their lags, which moments leave alone."""
    if one.lag_error is None or other.lag_error is None:
        return math.hypot(one.latency.error, other.latency.error)
    return math.hypot(one.lag_error, other.lag_error)


def _rightness(measured: Measured) -> float:
    guard = measured.guard
    return guard.accuracy if guard.accuracy is not None else (guard.agreement or 0.0)


def _missed(measured: Measured, goal: Goal) -> int:
    return len(_missed_targets(measured, goal.targets))


def _missed_targets(measured: Measured, targets: Targets) -> list[str]:
    missed = []
    latencies = dict(measured.latencies)
    if targets.p95_latency_ms is not None:
        p95_ms = latencies[min(latencies)].p95_ms
        if p95_ms > targets.p95_latency_ms:
            missed.append(f"p95 {show_ms(p95_ms)} is above the target {show_ms(targets.p95_latency_ms)}")
    if targets.throughput_rows_per_s is not None:
        rate = max(1000 * rows / latency.median_ms for rows, latency in measured.latencies)
        if rate < targets.throughput_rows_per_s:
            missed.append(f"{rate:.0f} rows/s are below the target {targets.throughput_rows_per_s:.0f}")
    return missed


# Sentences


def _told_once(rejected: Sequence[Rejected]) -> list[str]:
    """A sentence each; of ways to run a pair that are out for the same reason one for all of them."""
    ways: dict[tuple[str, str, str], list[Rejected]] = {}
    for each in rejected:
        ways.setdefault((each.variant, each.backend, each.reason), []).append(each)
    return [str(alike[0] if len(alike) == 1 else replace(alike[0], options=None)) for alike in ways.values()]


def _chosen_sentence(chosen: Measured, count: int, goal: Goal, frugal: Frugal | None) -> str:
    why = {
        Objective.LATENCY: "the fastest",
        Objective.THROUGHPUT: "the most rows a second",
        Objective.MEMORY: f"the least memory, give or take {MEMORY_NOISE_MB:g} MB,",
        Objective.EFFICIENCY: "the fastest",
    }[goal.objective]
    among = f"{why} of {count} that may run" if count > 1 else "the only one that may run"
    if frugal is not None and len(frugal.among) > 1:
        among = _frugal_text(chosen, frugal)
    text = f"{chosen.candidate}: {_figure(chosen, goal)}, chosen: {among}{_rightness_text(chosen, goal)}"
    return text + _batch_limit_text(chosen, goal.memory_cap_mb)


def _frugal_text(chosen: Measured, frugal: Frugal) -> str:
    in_batches = f" in batches of {frugal.rows}" if frugal.rows > 1 else ""
    least = f"the least {_busy_name(chosen)}, {show_ms(frugal.row_ms(chosen))} a row{in_batches}"
    return f"{least}, of {len(frugal.among)} about as fast as the fastest"


def _busy_name(measured: Measured) -> str:
    return "processor time" if measured.candidate.backend.device == CPU else "time of its device"


def _batch_limit_text(chosen: Measured, cap_mb: float | None) -> str:
    """What keeps its batches small, where that is the memory cap."""
    rows = most_rows(chosen.memory, cap_mb)
    if rows is None or cap_mb is None:
        return ""
    excess = next((text for use in chosen.memory if use.rows > rows and (text := use.excess(cap_mb))), None)
    return "" if excess is None else f"; batches of at most {rows}, since it would take {excess}"


def _other_sentence(
    measured: Measured, chosen: Measured, is_tied: bool, goal: Goal, frugal: Frugal | None = None
) -> str:
    text = f"{measured.candidate}: {_figure(measured, goal)}"
    if measured.guard.is_partial:
        text += f", checked on {measured.guard.rows} rows only"
    if is_tied:
        return f"{text}, within the noise of the chosen one, which is {_tie_reason(measured, chosen, goal)}"
    missed = _missed_targets(measured, goal.targets)
    if len(missed) > _missed(chosen, goal):
        return f"{text}; {'; '.join(missed)}"
    if goal.objective is Objective.MEMORY:
        if measured.memory_mb is None or chosen.memory_mb is None:
            return f"{text}, its memory could not be measured"
        return f"{text}, {measured.memory_mb - chosen.memory_mb:+.1f} MB against the chosen one"
    if frugal is not None and measured in frugal.among:
        times = _times(frugal.row_ms(measured) / frugal.row_ms(chosen))
        return f"{text}, {times} × the chosen one's {_busy_name(measured)}"
    if frugal is not None and measured in frugal.quick:
        times = _times(frugal.in_batches_ms(measured) / frugal.in_batches_ms(chosen))
        return f"{text}, {times} × the chosen one in batches of {frugal.rows}"
    times = _times(measured.latency.median_ms / chosen.latency.median_ms * chosen.rows / measured.rows)
    return f"{text}, {times} × the chosen one" + ("" if measured.rounds else " (in its trial)")


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _tie_reason(measured: Measured, chosen: Measured, goal: Goal) -> str:
    if goal.objective is Objective.MEMORY and chosen.latency.median_ms < measured.latency.median_ms * (1 - MAX_NOISE):
        return "faster"
    if _rightness(chosen) > _rightness(measured):
        return f"more accurate ({_percent(_rightness(chosen))} against {_percent(_rightness(measured))})"
    if chosen.candidate.options.threads < measured.candidate.options.threads:
        return "on fewer threads"
    return "as good"


def _figure(measured: Measured, goal: Goal) -> str:
    latency = measured.latency
    if goal.objective is Objective.THROUGHPUT:
        return f"{1000 * measured.rows / latency.median_ms:.0f} rows/s in batches of {measured.rows}"
    if goal.objective is Objective.MEMORY and measured.memory_mb is not None:
        return f"{measured.memory_mb:.1f} MB at {show_ms(latency.median_ms)}"
    return show_ms(latency.median_ms)


def _rightness_text(measured: Measured, goal: Goal) -> str:
    guard = measured.guard
    if guard.accuracy is not None:
        floor = f", floor {_percent(goal.accuracy_floor)}" if goal.accuracy_floor is not None else ""
        return f" ({_percent(guard.accuracy)} right{floor})"
    return f" ({_percent(guard.agreement)} agreement)" if guard.agreement is not None else ""


def _missed_text(chosen: Measured, goal: Goal) -> str | None:
    missed = _missed_targets(chosen, goal.targets)
    return f"no candidate meets the targets; of the chosen one: {'; '.join(missed)}" if missed else None


def _unstable_text(chosen: Measured, source: str) -> str | None:
    spread = chosen.latency.spread
    if spread <= UNSTABLE_SPREAD:
        return None
    return (
        f"this machine is unstable: the middle half of the repeats of {chosen.candidate} spreads by ±{spread / 2:.0%} of their "
        f"median; close other programs, then `edgeward calibrate {source} --force --budget 10`"
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"

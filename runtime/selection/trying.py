"""The first look at every candidate, within its part of the budget: who is tried, in which order, and who need not be.

Of every variant on every backend one way to run is tried first, the one on most threads, whatever the budget: what was never
tried cannot be chosen. Only where that is not far behind, and time is left, are the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.selection.bench import Bench, CandidateFailedError, Trial
from runtime.selection.candidates import Candidate, Rejected, rejected_because

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""What is being done, and the share of the work that is behind (0 to 1)."""

FAR_BEHIND: Final = 2.5
"""Who took so many times the fastest one's time in the trial, best call against best call, is not looked at further."""
OPTIONS_SHARE: Final = 0.5
"""Of the budget, by when the last trial of another way to run should be over: the rest is for measuring them."""
LEAST_CHECK_S: Final = 0.1
CHECK_SHARE: Final = 0.05
"""Of the budget, for checking answers beyond the first rows in one trial; who then looks like winning is checked in full."""


@dataclass(slots=True)
class Tried:
    """What the trials showed."""

    trials: list[tuple[Candidate, Trial]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    standard: Candidate | None = None
    """The way in which the reference variant ran, with which the others were compared."""
    loading_s: float = 0.0
    """Time that loading engines and starting a process took, which is no trial of any candidate."""
    untried: int = 0
    """Candidates for which there was no time."""

    def fastest_ms(self, rows: int) -> float:
        """The best call of any trial so far; infinite before the first."""
        return min((best_ms(trial, rows) for _, trial in self.trials), default=float("inf"))


def best_ms(trial: Trial, rows: int) -> float:
    """The best call with `rows` rows, or with as many as there may be: what disturbs a call only ever makes it slower."""
    by_rows = dict(trial.latencies)
    return min(by_rows.get(rows) or next(iter(by_rows.values())))


def order_of_trying(candidates: Sequence[Candidate], reference: str) -> tuple[list[Candidate], list[Candidate]]:
    """First looks, one a pair of variant and backend, and the rest. `reference` goes first: the others are compared with it."""
    first: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        known = first.get(candidate.pair)
        if known is None or candidate.options.threads > known.options.threads:
            first[candidate.pair] = candidate
    looks = sorted(first.values(), key=lambda c: c.variant.name != reference)
    return looks, [c for c in candidates if first[c.pair] is not c]


def try_all(
    bench: Bench,
    candidates: Sequence[Candidate],
    reference: str,
    rows: int,
    budget_s: float,
    clock: Callable[[], float],
    progress: Progress,
) -> Tried:
    """Every pair tried once, and their further ways to run while their part of the budget lasts."""
    looks, others = order_of_trying(candidates, reference)
    tried = Tried()
    check_s = max(LEAST_CHECK_S, CHECK_SHARE * budget_s)
    start = clock()
    failing_s = 0.0
    """What crashes and hangs took: they cost only whom they befall."""
    hung: dict[tuple[str, str], str] = {}
    took_s: dict[tuple[str, str], float] = {}
    look_ms: dict[tuple[str, str], float] = {}

    def reason_against(candidate: Candidate, is_look: bool) -> str | None:
        pair = candidate.pair
        if pair in hung:
            return f"not tried, since {hung[pair]} hung"
        if not is_look and look_ms.get(pair, 0.0) > FAR_BEHIND * tried.fastest_ms(rows):
            return f"not tried, since it is far behind with other options ({look_ms[pair]:.3g} ms)"
        spent_s = clock() - start - tried.loading_s - failing_s
        if not is_look and spent_s + took_s.get(pair, 0.0) > OPTIONS_SHARE * budget_s:
            tried.untried += 1
            return f"not tried: no time was left for it in the budget of {budget_s:g} s"
        return None

    for at, (candidate, is_look) in enumerate([*((c, True) for c in looks), *((c, False) for c in others)]):
        progress(f"trying {candidate}", 0.5 * at / len(candidates))
        reason = reason_against(candidate, is_look)
        if reason is not None:
            tried.rejected.append(rejected_because(candidate, reason))
            continue
        is_reference = tried.standard is None and candidate.variant.name == reference
        began, loaded_s = clock(), tried.loading_s
        try:
            trial = bench.try_out(candidate, candidate if is_reference else tried.standard, rows, check_s)
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", candidate, error)
            failing_s += clock() - began
            tried.rejected.append(rejected_because(candidate, str(error)))
            if error.is_hang:
                hung[candidate.pair] = str(candidate.options)
            continue
        tried.standard = candidate if is_reference else tried.standard
        tried.trials.append((candidate, trial))
        tried.loading_s += trial.loading_s
        took_s[candidate.pair] = clock() - began - (tried.loading_s - loaded_s)
        if is_look:
            look_ms[candidate.pair] = best_ms(trial, rows)
    return tried

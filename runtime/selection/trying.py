"""The first look at every candidate, within its part of the budget: who is tried, in which order, and who need not be.

Of every variant on every backend one way to run is tried first, the one on most threads. Only where that is not far behind, and
time is left, are the others, those of the fastest pair first. Where a large model leaves no time for every pair, the most promising
come first: the order is a prejudice, and decides nothing where there is time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.bundle.manifest import Format
from runtime.hardware import Hardware
from runtime.hardware.isa import IsaFeature
from runtime.selection.bench import Bench, CandidateFailedError, Trial
from runtime.selection.candidates import CPU, Candidate, Rejected, rejected_because

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""What is being done, and the share of the work that is behind (0 to 1)."""

UNTRIED: Final = "not tried"
"""How the reason of a candidate begins that was not even opened."""
FAR_BEHIND: Final = 2.5
"""Who took so many times the fastest one's time in the trial, best call against best call, is not looked at further."""
SURE_LOOKS: Final = 2
"""So many pairs that may prove right are tried whatever that takes: without a second there is no choice. One of them is the
reference, or where its answers are known a variant in `EXACT` on any engine but PyTorch: the others may all prove wrong. PyTorch,
which takes seconds to load, is one of them only where there is no such variant."""
EXACT: Final = "fp32"
"""The precision whose answers are right wherever the reference's are."""
LOOKS_SHARE: Final = 0.6
"""Of the budget, by when the last first look should be over; two fifths are for rounds and the check of the winner."""
WAITED_SHARE: Final = 0.7
"""The same by the clock on the wall, on a machine whose other programs make every look last longer than it takes."""
LEAST_LOOKS_S: Final = 1.5
"""For first looks whatever the budget: the pairs of a small model take less, and a short answer should be right too."""
PROMISE: Final = {"int8": 0, "dynamic-int8": 1, "fp32": 1, "bf16": 3, "fp16": 4}
"""Precisions on a processor, the most promising first, with the step of each. Where LiteRT has both, the dynamic one is the faster
of a small transformer (7.8 ms against 8.8 in fp32) and a perceptron, and a tenth slower of ResNet-8 (2 cores, November 2026). fp16
is computed in fp32 there by most engines, after a conversion."""
WITH_INT8_DOT: Final = {**PROMISE, "fp32": 2, "bf16": 4, "fp16": 5}
"""The same where the processor multiplies and adds bytes in one instruction: int8 on a further engine comes before fp32 on any. Of
ResNet-50 it takes 13 to 14 ms on each of three engines and fp32 44 to 82, of a small transformer 2.7 and 5 (AVX-512 VNNI, 2 cores,
November 2026); without one int8 may be the slower."""
INT8_DOT: Final = frozenset(
    {IsaFeature.AVX512_VNNI, IsaFeature.AVX_VNNI, IsaFeature.AMX_INT8, IsaFeature.DOTPROD, IsaFeature.I8MM}
)
"""Instruction sets that have such an instruction."""
LATE: Final = 100
"""Steps: behind every other pair on a processor."""
OPTIONS_SHARE: Final = 0.5
"""Of the budget, by when the last trial of another way to run should be over: the rest is for measuring them."""
CHEAP_SHARE: Final = 0.02
"""Of the budget: who took less in its first look is tried with every option however long others made that last, for a small model
on a busy machine should not be chosen for from a few."""
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
    lost_s: float = 0.0
    """Time that crashes and hangs took, which is charged to nobody else."""
    untried: int = 0
    """Candidates for which there was no time."""
    hopeful: list[Candidate] = field(default_factory=list)
    """Those of the trials that may prove right."""

    def fastest_ms(self, rows: int) -> float:
        """The best call of any trial so far; infinite before the first."""
        return min((best_ms(trial, rows) for _, trial in self.trials), default=float("inf"))


def best_ms(trial: Trial, rows: int) -> float:
    """The best call with `rows` rows, or with as many as there may be: what disturbs a call only ever makes it slower."""
    by_rows = dict(trial.latencies)
    return min(by_rows.get(rows) or next(iter(by_rows.values())))


def promise_on(hardware: Hardware) -> Mapping[str, int]:
    """`PROMISE` or `WITH_INT8_DOT`, by what the processor has."""
    return WITH_INT8_DOT if INT8_DOT & set(hardware.cpu.features) else PROMISE


def order_of_trying(
    candidates: Sequence[Candidate], reference: str | None, promise: Mapping[str, int] = PROMISE
) -> tuple[list[Candidate], list[Candidate]]:
    """First looks, one a pair of variant and backend, and the rest. `reference` goes first: the others are compared with it.

    Then off the processor before on it; there by the `promise` of the precision, and a step later on each further backend. Programs
    of PyTorch come last: to load it takes seconds, and more than every other engine's first look.
    """
    first: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        known = first.get(candidate.pair)
        if known is None or candidate.options.threads > known.options.threads:
            first[candidate.pair] = candidate
    seen: dict[tuple[str, str], int] = {}
    turn: dict[tuple[str, str], int] = {}
    for candidate in first.values():
        of = candidate.variant.name, candidate.backend.device
        turn[candidate.pair] = seen[of] = seen.get(of, -1) + 1

    places = list(promise)

    def rank(c: Candidate) -> tuple[int, ...]:
        if c.backend.device != CPU:
            return (0,)
        precision = c.variant.precision
        place = places.index(precision) if precision in promise else len(places)
        late = LATE if c.variant.format is Format.TORCH else 0
        return 1, promise.get(precision, max(promise.values()) + 1) + turn[c.pair] + late, turn[c.pair], place

    of_reference = next((c for c in first.values() if c.variant.name == reference), None)
    looks = sorted(first.values(), key=lambda c: (c is not of_reference, rank(c)))
    return looks, [c for c in candidates if first[c.pair] is not c]


def try_all(
    bench: Bench,
    candidates: Sequence[Candidate],
    reference: str | None,
    rows: int,
    budget_s: float,
    clock: Callable[[], float],
    progress: Progress,
    may_be_right: Callable[[Candidate, Trial], bool],
    promise: Mapping[str, int] = PROMISE,
) -> Tried:
    """Every pair tried once, and then their further ways to run, while their parts of the budget last.

    `reference` is the name of the variant that has to answer before the others can be compared; None where its answers are known.
    `may_be_right`: whether a trial leaves it open that its candidate may run. `promise`: see `order_of_trying`.
    """
    looks, others = order_of_trying(candidates, reference, promise)
    ledger = _Ledger(looks, reference, rows, budget_s)
    check_s = max(LEAST_CHECK_S, CHECK_SHARE * budget_s)
    for at, (candidate, is_look) in enumerate(_one_after_the_other(looks, others, ledger)):
        progress(f"trying {candidate}", 0.5 * at / len(candidates))
        if not ledger.has_place_for(candidate, is_look):
            continue
        began = clock()
        try:
            trial = bench.try_out(candidate, ledger.compared_with(candidate), rows, check_s)
        except CandidateFailedError as error:
            log.info("candidate %s is out: %s", candidate, error)
            ledger.note_failure(candidate, error, clock() - began)
        else:
            is_hopeful = may_be_right(candidate, trial)
            ledger.note_trial(candidate, trial, clock() - began, is_look=is_look, is_hopeful=is_hopeful)
    return ledger.tried


def _one_after_the_other(
    looks: Sequence[Candidate], others: Sequence[Candidate], ledger: _Ledger
) -> Iterator[tuple[Candidate, bool]]:
    """Each with whether it is a first look; the others once it is known how fast their pairs are."""
    for candidate in looks:
        yield candidate, True
    for candidate in sorted(others, key=ledger.place):
        yield candidate, False


class _Ledger:
    """What the trials showed and cost so far, and from that whether there is a place for the next one."""

    def __init__(self, looks: Sequence[Candidate], reference: str | None, rows: int, budget_s: float) -> None:
        self.tried: Final = Tried()
        self._looks = looks
        self._reference = reference
        self._rows = rows
        self._budget_s = budget_s
        self._spent_s = 0.0
        """What trials were charged with; not crashes and hangs, which cost only whom they befall, nor what other programs took."""
        self._waited_s = 0.0
        """What they lasted, without what engines took to load."""
        self._seen: set[tuple[str, str]] = set()
        self._skipped: set[tuple[str, str]] = set()
        self._hung: dict[tuple[str, str], str] = {}
        """By pair, the options with which it hung."""
        self._look_s: dict[tuple[str, str], float] = {}
        """By pair, what its first look was charged with."""
        self._look_ms: dict[tuple[str, str], float] = {}
        """By pair, the best call of its first look."""

    def has_place_for(self, candidate: Candidate, is_look: bool) -> bool:
        """Whether it is to be tried; where not, it is rejected with the reason. `is_look`: whether its pair was never tried."""
        reason = self._reason_against(candidate, is_look)
        self._seen.add(candidate.pair)
        if reason is not None:
            self.tried.rejected.append(rejected_because(candidate, reason))
        return reason is None

    def place(self, candidate: Candidate) -> tuple[bool, float]:
        """Of another way to run, among all of them: the reference's before all while it has given no answers, then by the best call
        of the pair's first look.
        """
        return not self._is_first_of_reference(candidate), self._look_ms.get(candidate.pair, float("inf"))

    def compared_with(self, candidate: Candidate) -> Candidate | None:
        """Whose answers those of `candidate` are held against: its own, where it is the first of the reference."""
        return candidate if self._is_first_of_reference(candidate) else self.tried.standard

    def note_failure(self, candidate: Candidate, error: CandidateFailedError, lasted_s: float) -> None:
        """It gave no answers."""
        self.tried.lost_s += lasted_s
        self.tried.rejected.append(rejected_because(candidate, str(error)))
        if error.is_hang:
            self._hung[candidate.pair] = str(candidate.options)

    def note_trial(
        self, candidate: Candidate, trial: Trial, lasted_s: float, *, is_look: bool, is_hopeful: bool
    ) -> None:
        """It answered, in `lasted_s` of the clock on the wall."""
        if self._is_first_of_reference(candidate):
            self.tried.standard = candidate
        self.tried.trials.append((candidate, trial))
        if is_hopeful:
            self.tried.hopeful.append(candidate)
        self.tried.loading_s += trial.loading_s
        self._spent_s += trial.effort_s
        self._waited_s += lasted_s - trial.loading_s
        if is_look:
            self._look_s[candidate.pair] = trial.effort_s
            self._look_ms[candidate.pair] = best_ms(trial, self._rows)

    def _is_first_of_reference(self, candidate: Candidate) -> bool:
        return self.tried.standard is None and candidate.variant.name == self._reference

    def _reason_against(self, candidate: Candidate, is_look: bool) -> str | None:
        pair = candidate.pair
        if pair in self._hung:
            return f"{UNTRIED}, since {self._hung[pair]} hung"
        if not is_look and self._look_ms.get(pair, 0.0) > FAR_BEHIND * self.tried.fastest_ms(self._rows):
            return f"{UNTRIED}, since it is far behind with other options ({self._look_ms[pair]:.3g} ms)"
        if not (self._is_late_for_look(candidate) if is_look else self._is_late_for_options(pair)):
            return None
        self.tried.untried += 1
        self._skipped.add(pair)
        return f"{UNTRIED}: no time was left for it in the budget of {self._budget_s:g} s"

    def _is_late_for_look(self, candidate: Candidate) -> bool:
        next_s = min(self._look_s.values(), default=0.0)
        is_spent = self._spent_s + next_s > max(LOOKS_SHARE * self._budget_s, LEAST_LOOKS_S)
        is_waited = self._waited_s + next_s > max(WAITED_SHARE * self._budget_s, LEAST_LOOKS_S)
        return (is_spent or is_waited) and not self._is_sure(candidate)

    def _is_late_for_options(self, pair: tuple[str, str]) -> bool:
        next_s = self._look_s.get(pair, 0.0)
        until_now_s = self._spent_s if next_s < CHEAP_SHARE * self._budget_s else self._waited_s
        return pair in self._skipped or until_now_s + next_s > OPTIONS_SHARE * self._budget_s

    def _is_sure(self, candidate: Candidate) -> bool:
        """Whether it is looked at however late it is; see `SURE_LOOKS`."""
        hopeful = self.tried.hopeful
        has_exact = any(c.variant.name == self._reference or c.variant.precision == EXACT for c in hopeful)
        if has_exact and candidate.variant.format is Format.TORCH:
            return False
        if not has_exact and _is_exact(candidate):
            return True
        kept_for_exact = not has_exact and any(_is_exact(c) and c.pair not in self._seen for c in self._looks)
        return len(hopeful) + kept_for_exact < SURE_LOOKS


def _is_exact(candidate: Candidate) -> bool:
    """In `EXACT`, and not of PyTorch."""
    return candidate.variant.precision == EXACT and candidate.variant.format is not Format.TORCH

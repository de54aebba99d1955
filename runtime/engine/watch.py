"""Keeps a model honest while it serves: samples its answers and times its calls, and acts on what the tests find.

Decides nothing: whether answers disagree is `agreement`'s word, whether calls got slower `drift`'s. What takes time runs on a
thread of its own, which is there only while there is something to do. Of a call it takes well under a microsecond; of the few
that are timed, tens of them.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from runtime.bundle.bundle import Bundle
from runtime.engine import own_load
from runtime.engine.agreement import DisagreementTest
from runtime.engine.before_exit import end_before_exit
from runtime.engine.drift import MAX_CALLS, Drift, DriftTest, Timing
from runtime.engine.in_service import InService
from runtime.engine.measuring import MEASURING
from runtime.engine.own_load import Began, Claim, Clocks, Seen
from runtime.engine.reference import NoReferenceError, Reference, Sample
from runtime.engine.tally import Outcome, WatchTotals
from runtime.engine.watch_settings import WatchSettings
from runtime.errors import EdgewardError
from runtime.selection.candidates import Candidate
from runtime.selection.choice import Choice, Ranked
from runtime.tensors import Array

if TYPE_CHECKING:
    from runtime.selection.trying import Progress

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0
"""A look at the timings takes some 0.05 ms, of one call every so often."""
TIMED_A_LOOK: Final = 64
"""About so many calls are timed between two looks, however many there are: one costs 9 µs of the processor, 46 µs beside ten
other threads (busy 2-core virtual machine, November 2026), the others 0.3 µs."""
FIRST_STRIDE: Final = 8
"""One call of so many is timed before the first look."""
CLOSE_TIMEOUT_S: Final = 5.0
"""A check or a turn of measuring that is under way when its model is closed ends within this."""

Start = Callable[[Callable[[], None]], None]
ChooseAgain = Callable[[Any, "Progress"], Choice]
"""Measures the candidates of a model (the `Watched` one) anew; may take seconds."""


class Watched(Protocol):
    """The model that is watched; `runtime.engine.model.Model` is one."""

    name: str
    version: int
    bundle: Bundle

    @property
    def serving(self) -> str:
        """What answers now, in words."""

    def admissible(self, choice: Choice) -> Choice:
        """`choice` without what is in quarantine."""

    def present(self, choice: Choice) -> Choice:
        """`choice` without what is in quarantine, or was found gone."""

    def adopt(self, choice: Choice, reason: str) -> bool:
        """Answers by `choice` from now on; whether that is another candidate than before."""

    def quarantine(self, candidate: Candidate, reason: str) -> bool:
        """Takes `candidate` out of service; whether another one took over."""


class _CancelledError(Exception):
    """The model was closed while it was measured."""


def start_thread(job: Callable[[], None]) -> None:
    """Runs `job` on a thread that does not keep the process alive."""
    threading.Thread(target=job, name="edgeward-watch", daemon=True).start()


class Watch:
    """Of one model. `enter`, `leave` and `look` are called by every call, from any thread."""

    def __init__(
        self,
        settings: WatchSettings,
        choose_again: ChooseAgain,
        cores: Callable[[], int],
        memory_cap_mb: float | None = None,
        clocks: Clocks = Clocks(),  # noqa: B008  (frozen)
        start: Start = start_thread,
        seed: int | None = None,
    ) -> None:
        """`cores`: how many threads the processor allowed this process when candidates were measured last. `memory_cap_mb`: what
        the reference may take beside what serves; None: no cap.
        """
        self.totals = WatchTotals()
        self._settings = settings
        self._choose_again = choose_again
        self._cores = cores
        self._memory_cap_mb = memory_cap_mb
        self._clocks = clocks
        self._wall = clocks.wall
        self._start = start
        # To seed a generator of its own takes 30 µs, which nobody needs but who wants the same calls sampled again.
        self._random = random.random if seed is None else random.Random(seed).random  # noqa: S311  (no secret)
        # Counted without a lock: a call that is lost now and then does not matter to a sample.
        self._calls = 0
        self._next_check = self._gap()
        self._next_look_ns = clocks.wall() + int(LOOK_EVERY_S * 1e9)
        self._stride = FIRST_STRIDE
        self._calls_looked_at = 0
        self._timed: deque[tuple[int, Seen, Claim]] = deque(maxlen=MAX_CALLS)
        """Rows of a call, what it took, and of what."""
        self._busy = threading.Lock()
        """Held while something is under way; what is below belongs to who holds it."""
        self._drift: tuple[Ranked, DriftTest] | None = None
        """What is timed, and its test. Not the `InService`: whoever holds that keeps a replaced session open."""
        self._own_choice: Choice | None = None
        self._calibrated_ns: int | None = None
        self._agreement: dict[tuple[str, str], DisagreementTest] = {}
        self._reference: Reference | None = None
        self._compared: tuple[Choice, int] | None = None
        """For which choice and place in it that is, also where there is none."""
        self._outdated: list[Reference] = []
        """Replaced or no longer allowed, and still to be closed."""
        self._is_closed = False

    def enter(self, claim: Claim) -> Began | None:
        """Before a call that takes `claim`: the clocks, where it is one of those that are timed. `leave` has to follow."""
        own_load.enter(claim)
        if self._calls % self._stride:
            return None
        try:
            return own_load.begin(claim, self._clocks)
        except Exception as error:  # no memory, or clocks that fail: the call goes on untimed
            self._note_untimed(error)
            return None
        except BaseException:  # this call will not run
            own_load.leave(claim)
            raise

    def leave(self, claim: Claim, began: Began | None, rows: int) -> bool:
        """After a call, with what `enter` gave (None also after an error): whether `look` has something to do."""
        if began is None:
            own_load.leave(claim)
        else:
            self._note_timed(claim, began, rows)
        self._calls += 1
        return self._calls >= self._next_check or self._wall() >= self._next_look_ns

    def _note_timed(self, claim: Claim, began: Began, rows: int) -> None:
        try:
            if rows and not MEASURING.locked():
                self._timed.append((rows, own_load.end(claim, began, self._clocks), claim))
        except Exception as error:  # the call has its answer
            self._note_untimed(error)
        finally:
            own_load.leave(claim)

    def look(
        self, model: Watched, service: InService, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        """Takes the sample and looks at the timings, if that is due; what that leads to is done on another thread.

        What is due while something is under way waits for its end.
        """
        if not self._busy.acquire(blocking=False):
            return
        is_started = False
        try:
            drift = self._look_at_timings(service)
            sample = None
            if self._calls >= self._next_check:
                self._next_check = self._calls + self._gap()
                sample = self._sample(model, service, inputs, outputs)
            if not self._is_closed and (drift is not None or sample is not None or self._outdated):
                end_before_exit(self.close)
                self._start(partial(self._work, model, service, sample, drift))
                is_started = True
        except Exception as error:  # no thread can be had, or no memory for copies: the call has its answer already
            self._note_failure(model, "the watch failed to look", error)
        finally:
            if not is_started:
                self._busy.release()

    def close(self) -> None:
        """Ends what is under way and closes the reference; called once the model takes no more calls."""
        self._is_closed = True
        if self._busy.acquire(
            timeout=CLOSE_TIMEOUT_S
        ):  # otherwise the thread that has it closes the reference at its end
            self._close_reference()
            self._busy.release()

    def _gap(self) -> int:
        """Calls until the next check: random around the setting, so that no rhythm of the calls hides anything."""
        every = self._settings.shadow_every
        return 1 + int(self._random() * (2 * every - 1)) if every else sys.maxsize

    def _look_at_timings(self, service: InService) -> Drift | None:
        now_ns = self._clocks.wall()
        if now_ns < self._next_look_ns:
            return None
        self._next_look_ns = now_ns + int(LOOK_EVERY_S * 1e9)
        self._stride = max(1, (self._calls - self._calls_looked_at) // TIMED_A_LOOK)
        self._calls_looked_at = self._calls
        timed = [self._timed.popleft() for _ in range(len(self._timed))]
        if self._drift is None or self._drift[0] is not service.ranked:
            learns = service.choice is self._own_choice
            self._drift = service.ranked, DriftTest(service.ranked.cost.cost_ms, learns_usual=learns)
            return None  # the timings are those of another candidate, or of the first calls
        test, cores = self._drift[1], self._cores()
        timings = [
            Timing(rows, seen.wall_ns / 1e6, own_load.alone_ns(seen, claim, cores) / 1e6)
            for rows, seen, claim in timed
            if claim is service.claim
        ]
        drift = test.look(timings, now_ns / 1e9)
        if test.verdict is not None:
            self.totals.verdicts[test.verdict] += 1
        every_s, last_ns = self._settings.recalibrate_every_s, self._calibrated_ns
        is_allowed = every_s > 0 and (last_ns is None or now_ns - last_ns >= every_s * 1e9)
        return drift if is_allowed else None

    def _sample(
        self, model: Watched, service: InService, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> Sample | None:
        """Copies of what a check needs; None where there is nothing to compare. The caller may change its arrays later."""
        if self._compared is None or self._compared[0] is not service.choice or self._compared[1] != service.place:
            self._compare(model, service)
        return None if self._reference is None else self._reference.sample(service.opened, inputs, outputs)

    def _compare(self, model: Watched, service: InService) -> None:
        """Finds what the answers of `service`, which has just come, are compared with. What is open already stays where it is
        found again.
        """
        self._compared = service.choice, service.place
        kept = self._reference
        found: Reference | None = None
        self.totals.shadow = ""
        try:
            found = Reference(model.bundle, model.present(service.choice), service.ranked, self._memory_cap_mb)
        except NoReferenceError as error:
            self.totals.shadow = str(error)
        if kept is not None and found is not None and kept.candidate.key == found.candidate.key:
            return
        if kept is not None:
            self._outdated.append(kept)
        self._reference = found

    def _work(self, model: Watched, service: InService, sample: Sample | None, drift: Drift | None) -> None:
        try:
            self._close_outdated()
            if sample is not None and self._reference is not None:
                self._check(model, service, self._reference, sample)
            if drift is not None:
                self._recalibrate(model, drift)
        except Exception as error:  # the outermost frame of this thread
            self._note_failure(model, "the watch failed", error)
        finally:
            if self._is_closed:
                self._close_reference()
            self._busy.release()

    def _check(self, model: Watched, service: InService, reference: Reference, sample: Sample) -> None:
        try:
            disagreeing = reference.share_disagreeing(sample)
        except NoReferenceError as error:  # what stands in for it was opened, and does not answer as it does
            self.totals.shadow = str(error)
            self._close_reference()
            return
        except EdgewardError as error:
            self.totals.shadow_failures += 1
            self._note_failure(model, "a shadow check could not be made", error)
            return
        if disagreeing is None:
            return
        totals, ranked = self.totals, service.ranked
        totals.shadow_checks += 1
        totals.disagreements += disagreeing > 0
        test = self._agreement.setdefault(ranked.candidate.pair, DisagreementTest(ranked.agreement))
        if not test.is_sustained(disagreeing):
            return
        del self._agreement[ranked.candidate.pair]
        reason = (
            f"its answers disagree with those of {reference.candidate} too often "
            f"(allowed {100 * test.allowed:.1f} %; {test.checks} shadow checks)"
        )
        totals.last_reason = f"{ranked.candidate}: {reason}"
        if model.quarantine(ranked.candidate, reason):
            totals.quarantined += 1
        else:
            totals.failures += 1
            totals.last_reason += "; nothing else could take over"

    def _recalibrate(self, model: Watched, drift: Drift) -> None:
        if not MEASURING.acquire(blocking=False):
            return  # the drift will be there at the next look, if it lasts
        try:
            self._calibrated_ns = self._clocks.wall()
            self.totals.recalibrations += 1
            self.totals.last_reason = f"{model.serving}: {drift}"
            log.warning("model %s version %d: %s; measuring again", model.name, model.version, drift)
            choice = self._choose_again(model, self._progress)
        except _CancelledError:
            return
        except EdgewardError as error:
            self.totals.recalibrated[drift.verdict, Outcome.FAILED] += 1
            self._note_failure(model, "measuring again failed; the choice stays", error)
            return
        finally:
            MEASURING.release()
        self._own_choice = choice = model.admissible(choice)
        is_switched = model.adopt(choice, str(drift))
        self.totals.recalibrated[drift.verdict, Outcome.SWITCHED if is_switched else Outcome.KEPT] += 1
        if not is_switched:
            log.warning("model %s version %d: measured again, %s stays", model.name, model.version, model.serving)

    def _progress(self, what: str, share: float) -> None:
        if self._is_closed:
            raise _CancelledError

    def _note_failure(self, model: Watched, what: str, error: Exception) -> None:
        self.totals.failures += 1
        log.error("model %s version %d: %s: %s", model.name, model.version, what, error, exc_info=error)

    def _note_untimed(self, error: Exception) -> None:
        self.totals.failures += 1
        log.error("a call could not be timed: %s", error, exc_info=error)

    def _close_outdated(self) -> None:
        while self._outdated:
            self._outdated.pop().close()

    def _close_reference(self) -> None:
        self._close_outdated()
        if self._reference is not None:
            self._reference.close()
            self._reference = None

"""What of a model's candidates answers now, and which takes over when that one is gone, wrong, or no longer the best.

Opens, warms up and replaces; that something has to be replaced is found elsewhere (`watch`, or the call that failed).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from runtime.backends.base import Overlap
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.bundle.bundle import Bundle
from runtime.engine.grant import Granted, grant
from runtime.engine.in_service import InService
from runtime.engine.tally import Switch, SwitchReason, Tally
from runtime.engine.uses import Uses
from runtime.engine.warm_up import warm_up
from runtime.errors import BackendUnavailableError, EdgewardError, NoCandidateError
from runtime.selection.candidates import CPU, Candidate
from runtime.selection.choice import Choice, Ranked

log = logging.getLogger(__name__)


class Succession:
    """Of one version of a model. Readers take `service` and wait for nobody; changes are made one at a time, on any thread."""

    def __init__(self, bundle: Bundle, choice: Choice, uses: Uses, instances: int, memory_cap_mb: float | None) -> None:
        """Opens the first candidate of `choice` that can be; `uses` tells when nothing is to be replaced any more."""
        self.fallbacks: list[str] = []
        """A sentence for every time what answers vanished or proved wrong, and the next candidate took over."""
        self.fallback: str | None = None
        """The last of them, while what took over then answers; None once a calibration has chosen again."""
        self.changes = 0
        """Times that what answers, or what is known of its cost, was replaced."""
        self.switches: Tally[Switch] = Tally()
        """Times that another candidate took over, by which ones and why."""
        self.instances = instances
        """How many calls were asked to run at the same time, whatever is granted of them."""
        self._bundle = bundle
        self._uses = uses
        self._memory_cap_mb = memory_cap_mb
        self._changing = threading.Lock()
        """Held while something else is put in service; calls never wait for it unless what they use is gone."""
        self._quarantined: set[tuple[str, str]] = set()
        self._lost: set[str] = set()
        """Devices that vanished since a calibration last chose."""
        self._gone: set[tuple[str, str]] = set()
        """Variants and backends that since then failed for good, or could not be opened."""
        self.service, passed_over = self._open_next(choice, 0)
        """What answers now; replaced as a whole."""
        if passed_over is not None:  # a device that was there when this was measured
            self._note_fallback(f"{passed_over}; {self.service.ranked.candidate} took over")
            self._note_switch(choice.selected.candidate, self.service.ranked.candidate, SwitchReason.LOST)

    def grant(self, instances: int) -> Granted:
        """How many calls would run at the same time on what answers now, were so many asked for."""
        service = self.service
        return grant(instances, service.opened.session.overlap, service.ranked.memory, self._memory_cap_mb)

    def set_instances(self, count: int) -> None:
        """Lets `count` calls run at the same time from now on, or as many as can, without a failed call.

        May take as long as opening does; errors of that leave everything as it was.
        """
        with self._changing:
            before, was = self.service, self.instances
            if count == was or self._uses.is_closing:
                return
            self.instances = count
            if before.opened.session.overlap is not Overlap.OWN:
                self.changes += 1
                return
            try:
                service, passed_over = self._open_next(before.choice, before.place, is_warm=True)
            except EdgewardError:
                self.instances = was
                raise
            fallback = self.fallback
            self._replace(
                service, SwitchReason.LOST, passed_over and f"{passed_over}; {service.ranked.candidate} took over"
            )
            self.fallback = self.fallback or fallback

    def admissible(self, choice: Choice) -> Choice:
        """`choice` without what was taken out of service here for its answers; as it is when that leaves nothing."""
        ranked = tuple(r for r in choice.ranked if r.candidate.pair not in self._quarantined)
        return replace(choice, ranked=ranked) if ranked else choice

    def present(self, choice: Choice) -> Choice:
        """`choice` without what is not admissible, or was found gone since it was made; as it is when that leaves nothing."""
        choice = self.admissible(choice)
        ranked = tuple(
            r
            for r in choice.ranked
            if r.candidate.pair not in self._gone and r.candidate.backend.device not in self._lost
        )
        return replace(choice, ranked=ranked) if ranked else choice

    def adopt(self, choice: Choice, reason: str) -> bool:
        """Answers by `choice` from now on, without a failed call; whether that is another candidate than before.

        What cannot be opened, or fails while it is warmed up, leaves everything as it is. May take as long as opening does.
        """
        with self._changing:
            if self._uses.is_closing:
                return False
            self._lost.clear()  # what was just measured was there
            self._gone.clear()
            before = self.service
            if choice.selected.candidate.key == before.ranked.candidate.key:
                self._replace(before.measured_anew(choice, 0), SwitchReason.MEASURED_AGAIN)
                return False
            try:
                service = self._open_warm(choice)
            except EdgewardError as error:
                self._log(logging.ERROR, f"{before.ranked.candidate} stays in service: {error}")
                return False
            self._replace(service, SwitchReason.MEASURED_AGAIN)
        after, was = service.ranked.candidate, before.ranked.candidate
        self._log(logging.WARNING, f"{after} took over from {was} ({reason})")
        return after.key != was.key

    def quarantine(self, candidate: Candidate, reason: str) -> bool:
        """Takes the variant and backend of `candidate` out of service for their answers; whether another one took over."""
        with self._changing:
            before = self.service
            if self._uses.is_closing or before.ranked.candidate.pair != candidate.pair:
                return False
            self._quarantined.add(candidate.pair)
            try:
                service = self._open_warm(before.choice)
            except EdgewardError as error:
                self._quarantined.discard(candidate.pair)
                self._log(logging.ERROR, f"{candidate} stays in service although {reason}: {error}")
                return False
            self._replace(
                service,
                SwitchReason.QUARANTINED,
                f"{candidate} is in quarantine ({reason}); {service.ranked.candidate} took over",
            )
        return True

    def fall_back(self, failed: InService, error: BackendUnavailableError) -> InService:
        """The next candidate after `failed`, opened; whichever thread comes first opens it for all."""
        with self._changing:
            if self.service is failed:
                gone = failed.ranked.candidate
                self._note_lost(gone)
                service, passed_over = self._open_next(failed.choice, failed.place + 1, error, is_warm=True)
                parts = (f"{gone} is gone ({error})", passed_over, f"{service.ranked.candidate} took over")
                self._replace(service, SwitchReason.LOST, "; ".join(part for part in parts if part))
            return self.service

    def close(self) -> None:
        """Closes what answers; nothing may use it any more."""
        with self._changing:
            self.service.close()

    def _note_lost(self, candidate: Candidate) -> None:
        """Whatever else is for its device need not be opened any more. The processor is never lost, only an engine on it."""
        self._gone.add(candidate.pair)
        if candidate.backend.device != CPU:
            self._lost.add(candidate.backend.device)

    def _replace(self, service: InService, reason: SwitchReason, fallback: str | None = None) -> None:
        """Puts `service` in service; `fallback`: a sentence, where that is second best."""
        self._note_switch(self.service.ranked.candidate, service.ranked.candidate, reason)
        self.service = service
        self.fallback = None
        if fallback is not None:
            self._note_fallback(fallback)
        self.changes += 1

    def _note_switch(self, before: Candidate, after: Candidate, reason: SwitchReason) -> None:
        if before.key != after.key:
            self.switches[Switch(before.key, after.key, reason)] += 1

    def _note_fallback(self, sentence: str) -> None:
        self.fallback = sentence
        self.fallbacks.append(sentence)
        self._log(logging.ERROR, sentence)

    def _open_warm(self, choice: Choice) -> InService:
        return self._open_next(choice, 0, is_warm=True)[0]

    def _open_next(
        self, choice: Choice, first: int, cause: EdgewardError | None = None, *, is_warm: bool = False
    ) -> tuple[InService, str | None]:
        """The first candidate from rank `first` on whose device is there, and which is not in quarantine; warmed up if asked.

        And a sentence on those before it that cannot be opened, None where there are none.
        """
        # With `cause` a caller waits for an answer and nothing is left to go back to: whatever is wrong, the next is tried.
        is_bearable = BackendUnavailableError if cause is None else EdgewardError
        passed_over: list[str] = []
        for place in range(first, len(choice.ranked)):
            ranked = choice.ranked[place]
            candidate = ranked.candidate
            if (self._quarantined and candidate.pair in self._quarantined) or candidate.backend.device in self._lost:
                continue
            try:
                opened = self._open(ranked, is_warm)
            except is_bearable as error:
                cause = error
                self._gone.add(candidate.pair)
                passed_over.append(f"{candidate} cannot be opened ({error})")
                self._log(logging.ERROR, passed_over[-1])
                continue
            if self._gone:
                self._gone.discard(candidate.pair)
            return InService(choice, place, opened), "; ".join(passed_over) or None
        lost = f" (lost: {', '.join(sorted(self._lost))})" if self._lost else ""
        raise NoCandidateError(
            f"model {self._bundle.name!r} version {self._bundle.version}: none of its {len(choice.ranked)} candidates opens "
            f"any more{lost}; calibrate again"
        ) from cause

    def _open(self, ranked: Ranked, is_warm: bool) -> OpenedVariant:
        candidate = ranked.candidate

        def instances(overlap: Overlap) -> int:
            return grant(self.instances, overlap, ranked.memory, self._memory_cap_mb).count

        wished = instances if self.instances > 1 else None
        opened = open_variant(self._bundle, candidate.variant, candidate.backend, candidate.options, wished)
        if is_warm:
            try:
                overlap = opened.session.overlap
                warm_up(opened.predict, opened.inputs, overlap, instances(overlap))
            except BaseException:
                opened.close()
                raise
        return opened

    def _log(self, level: int, sentence: str) -> None:
        log.log(level, "model %s version %d: %s", self._bundle.name, self._bundle.version, sentence)

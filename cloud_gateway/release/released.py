"""One request within a release: the arm that it falls to is asked, stable answers instead of a candidate that fails, and what was
seen is noted once the caller has its answer.

By calls, without a task (`runtime.serving.asking`): while a release runs every request of its model comes this way. Between two
requests a processor forgets this code: a call of Python that takes a tenth of a microsecond in a loop takes one or two here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from cloud_gateway.guards import Arm
from cloud_gateway.release.active import FENCED, UNREAD, ActiveRelease
from cloud_gateway.release.answering import Answered, Traffic
from cloud_gateway.release.request_log import Asked
from cloud_gateway.release.split import place, random_place
from runtime.errors import (
    CallerError,
    CancelledError,
    DeadlineExceededError,
    EdgewardError,
    ModelNotFoundError,
    OverloadedError,
)
from runtime.serving.asking import Answer, Ask, Withdraw
from runtime.tensors import Array
from runtime.wire.repeats import OneMore
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameters

RELEASE: Final = "release"
"""The reply parameter that says which arm answered."""
MAX_REASON_CHARACTERS: Final = 500
# An enum's `value` is a call of Python.
_STABLE: Final = Arm.STABLE.value
_CANDIDATE: Final = Arm.CANDIDATE.value


@dataclass(frozen=True, slots=True)
class Way:
    """What all requests of a gateway have in common."""

    ask: Ask
    """Of the service that runs models."""
    is_ready: Callable[[], bool]
    """Whether that one answers anybody."""
    traffic: Traffic
    one_more: OneMore

    def is_the_arms_fault(self, error: EdgewardError) -> bool:
        """Whether another version might have answered. One that is not there any more is no caller's fault: we chose it."""
        if isinstance(error, CancelledError) or not self.is_ready():
            return False
        return isinstance(error, ModelNotFoundError) or not isinstance(error, CallerError)

    def log(
        self,
        request: InferenceRequest,
        key: str,
        segment: str,
        arm: Arm,
        latency_s: float,
        *,
        is_error: bool,
        is_later: bool = False,
    ) -> Asked | None:
        """What the log is to know of a request; `is_later`: it is told once the other version was given it too."""
        if self.traffic.log is None:
            return None
        name = str(request.parameters.get(key) or request.id or "")
        asked = Asked(request.model, name, segment, arm, is_error, latency_s)
        if not is_later:
            self.traffic.log.write(asked)
        return asked


class Released:
    """Used on one event loop."""

    __slots__ = (
        "_active",
        "_answer",
        "_arm",
        "_began",
        "_failure",
        "_request",
        "_segment",
        "_split",
        "_way",
        "_where",
        "_withdraw",
    )

    def __init__(self, way: Way, active: ActiveRelease, request: InferenceRequest, answer: Answer) -> None:
        began = self._began = perf_counter()
        self._way, self._active, self._request, self._answer = way, active, request, answer
        split = self._split = active.split if began < active.trusted_until else active.fenced
        parameters = request.parameters
        key = parameters.get(split.routing_key, request.id) if parameters else request.id
        where = self._where = random_place() if key == "" else place(split.salt, str(key))
        self._arm = Arm.CANDIDATE if where < split.candidate_below else Arm.STABLE
        self._segment = active.segments.of(parameters.get(split.segment)) if split.segment else ""
        self._failure: str | None = None
        self._withdraw: Withdraw

    def ask(self) -> Withdraw:
        """Begins it; raises at once what can be said at once."""
        split = self._split
        version = split.stable_version if self._arm is Arm.STABLE else split.candidate_version
        try:
            self._withdraw = self._way.ask(versioned(self._request, version), self._told)
        except EdgewardError as error:
            if not self._is_asked_again(error):
                raise
        return self.withdraw

    def withdraw(self) -> None:
        """Whichever arm has it now."""
        withdraw, self._withdraw, self._answer = self._withdraw, _nothing, _nothing
        withdraw()

    def _told(self, response: InferenceResponse | None, error: BaseException | None) -> None:
        """By the arm that was asked, or by stable, of a request that the candidate failed."""
        took_s, said = perf_counter() - self._began, None
        try:
            if response is not None:
                told = self._parameters(response.parameters)
                said = InferenceResponse(response.model, response.version, response.outputs, response.id, told)
            elif error is not None and self._failure is None and self._is_asked_again(error):
                return
        except Exception as failure:  # stable's, said at once; and whatever else it is, the caller is told
            error = failure
        # Both lead back here: what is cut is gone with the request, and is left to no collector of cycles.
        answer, self._answer, self._withdraw = self._answer, _nothing, _nothing
        answer(said, error)
        if said is None or response is None:
            return
        try:
            self._note(response, took_s)
        except Exception as failure:  # the caller has its answer
            self._active.note_untold(failure)

    def _parameters(self, own: Parameters) -> Parameters:
        """A reply's, with what the release has to say."""
        active, failure = self._active, self._failure
        if failure is not None:
            reason = f"the candidate failed: {failure}; answered by stable"[:MAX_REASON_CHARACTERS]
            return {**own, RELEASE: _STABLE, "reason": reason}
        told = self._way.one_more(own, RELEASE, _STABLE if self._arm is Arm.STABLE else _CANDIDATE)
        if self._split is active.fenced:
            active.fenced_answers += 1
            told = {**told, "reason": FENCED if active.unread is None else UNREAD}
        return told

    def _note(self, response: InferenceResponse, took_s: float) -> None:
        """What was seen of a request that was answered; that the candidate failed it was noted before."""
        active, arm = self._active, self._arm
        if self._failure is not None:
            if active.waits_for_labels:
                self._tell(Arm.STABLE, response)
            return
        active.note_request((arm, False, took_s, self._where, self._segment, self._split.share, False))
        outputs = None if self._request.outputs and _is_in_words(self._request) else response.outputs
        if arm is Arm.STABLE:
            share = active.mirrored_share
            is_mirrored = share > 0.0 and active.mirror is not None and outputs is not None and _is_drawn(share)
        else:
            active.note_candidate(None)
            is_mirrored = self._is_checked()
        asked = None if self._way.traffic.log is None else self._log(took_s, is_error=False, is_later=is_mirrored)
        if is_mirrored:
            self._offer(outputs, asked)
        if active.waits_for_labels:
            self._tell(arm, response)

    def _is_asked_again(self, error: BaseException) -> bool:
        """Notes a failure that is the arm's; whether stable is asked now, of one of the candidate's."""
        if not isinstance(error, EdgewardError) or not self._way.is_the_arms_fault(error):
            return False
        active, arm = self._active, self._arm
        is_replaced = arm is Arm.CANDIDATE and not isinstance(error, DeadlineExceededError)
        took_s = perf_counter() - self._began
        active.note_request((arm, True, took_s, self._where, self._segment, self._split.share, is_replaced))
        # How loaded the gateway is, is neither version's doing, and stable is asked here without a queue.
        is_checked = is_replaced and not isinstance(error, OverloadedError) and self._is_checked()
        asked = self._log(took_s, is_error=True, is_later=is_checked)
        if arm is Arm.CANDIDATE:
            active.note_candidate(str(error))
        if is_checked:
            self._offer(None, asked, str(error))
        if is_replaced:
            self._failure = str(error)
            stable = versioned(self._request, active.split.version(Arm.STABLE))
            self._withdraw = self._way.ask(stable, self._told)
        return is_replaced

    def _is_checked(self) -> bool:
        """While stable has no callers it is given a share of the candidate's requests, drawn whatever became of them."""
        has_all = self._split.share == 1.0 and self._active.mirror is not None
        return has_all and _is_drawn(self._active.control_share)

    def _log(self, took_s: float, *, is_error: bool, is_later: bool) -> Asked | None:
        key, arm = self._split.routing_key, self._arm
        return self._way.log(self._request, key, self._segment, arm, took_s, is_error=is_error, is_later=is_later)

    def _offer(self, outputs: Mapping[str, Array] | None, asked: Asked | None, failure: str = "") -> None:
        """Gives a request to the version that did not have its caller too, where there is room."""
        mirror, request, log = self._active.mirror, self._request, self._way.traffic.log
        assert mirror is not None, "who is mirrored was asked before"
        is_taken = mirror.offer(request.inputs, outputs, self._segment, request.id, self._arm, failure, asked)
        if not is_taken and asked is not None and log is not None:
            log.write(asked)

    def _tell(self, arm: Arm, response: InferenceResponse) -> None:
        if (tell := self._way.traffic.on_answer) is None:
            return
        answered = Answered(
            response.model,
            response.version,
            self._split.release,
            arm,
            response.id,
            self._segment,
            response.outputs,
            is_shadow=False,
        )
        try:
            tell(answered)
        except Exception as error:  # the caller gets its answer all the same
            self._active.note_untold(error)


def _nothing(*_: object) -> None:
    """Once the caller was told, or waits no more."""


# Made by hand: `dataclasses.replace` takes 2 us more, each, of every request's way.
def versioned(request: InferenceRequest, version: str) -> InferenceRequest:
    """The same, of that version."""
    return InferenceRequest(
        request.model, request.inputs, version, request.id, request.outputs, request.parameters, request.deadline
    )


def _is_drawn(share: float) -> bool:
    return share >= 1.0 or random.random() < share  # noqa: S311  (a sample, no secret)


def _is_in_words(request: InferenceRequest) -> bool:
    """Whether an answer was asked for as class names and scores, which cannot be compared number by number."""
    return any("classification" in output.parameters for output in request.outputs)

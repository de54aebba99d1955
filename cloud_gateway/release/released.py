"""One request within a release: the arm that it falls to is asked, and stable answers instead of a candidate that fails.

By calls, without a task (`runtime.serving.asking`): while a release runs every request of its model comes this way. Between two
requests a processor forgets this code: a call of Python that takes a tenth of a microsecond in a loop takes one or two here.
So stable's requests have a way of their own, with few of them: nobody is asked in stable's place.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Final

from cloud_gateway.guards import Arm
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.noted import Route, Way
from cloud_gateway.release.split import NOWHERE, place, random_place
from runtime.errors import DeadlineExceededError, EdgewardError
from runtime.serving.asking import Answer, Withdraw
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameters

RELEASE: Final = "release"
"""The reply parameter that says which arm answered."""
MAX_REASON_CHARACTERS: Final = 500
# An enum's `value` is a call of Python.
_STABLE: Final = Arm.STABLE.value
_CANDIDATE: Final = Arm.CANDIDATE.value


def ask_within(way: Way, active: ActiveRelease, request: InferenceRequest, answer: Answer) -> Withdraw:
    """Begins a request of the release's model; raises at once what can be said at once. Called on one event loop."""
    began = perf_counter()
    split = active.split if began < active.fence.trusted_until else active.fenced
    parameters = request.parameters
    where = NOWHERE
    if split.has_both:
        key = parameters.get(split.routing_key, request.id) if parameters else request.id
        where = random_place() if key == "" else place(split.salt, str(key))
    segment = active.segments.of(parameters.get(split.segment)) if split.segment else ""
    # What `Route(...)` does, without its call of Python.
    route = tuple.__new__(Route, (active, split, request, where, segment, began))
    if where < split.candidate_below:
        return ByCandidate(way, route, answer).ask()
    try:
        return way.ask(versioned(request, split.stable_version), partial(_stable_told, way, route, answer))
    except EdgewardError as error:
        _note_stables_failure(way, route, error, perf_counter() - began)
        raise


def _stable_told(
    way: Way, route: Route, answer: Answer, response: InferenceResponse | None, error: BaseException | None
) -> None:
    took_s = perf_counter() - route.began
    if response is None:
        answer(None, error)
        if error is not None:
            _note_stables_failure(way, route, error, took_s)
        return
    active, own = route.active, response.parameters
    known, told = active.stables_reply
    if known is not own:
        told = way.one_more(own, RELEASE, _STABLE)
        active.stables_reply = own, told
    if route.split is active.fenced:
        told = _fenced(active, told)
    answer(InferenceResponse(response.model, response.version, response.outputs, response.id, told), None)
    way.note_answer(route, Arm.STABLE, response, took_s)


def _note_stables_failure(way: Way, route: Route, error: BaseException, took_s: float) -> None:
    if way.is_the_arms_fault(error):
        way.note_failure(route, Arm.STABLE, error, took_s, is_replaced=False)


class ByCandidate:
    """A request that falls to the candidate: stable is asked where that fails."""

    __slots__ = ("_answer", "_failure", "_route", "_way", "_withdraw")

    def __init__(self, way: Way, route: Route, answer: Answer) -> None:
        self._way, self._route, self._answer = way, route, answer
        self._failure: str | None = None
        self._withdraw: Withdraw

    def ask(self) -> Withdraw:
        """Begins it; raises at once what can be said at once."""
        route = self._route
        try:
            self._withdraw = self._way.ask(versioned(route.request, route.split.candidate_version), self._told)
        except EdgewardError as error:
            if not self._is_asked_again(error):
                raise
        return self.withdraw

    def withdraw(self) -> None:
        """Whichever arm has it now."""
        withdraw, self._withdraw, self._answer = self._withdraw, _nothing, _nothing
        withdraw()

    def _told(self, response: InferenceResponse | None, error: BaseException | None) -> None:
        """By the candidate, or by stable, of a request that the candidate failed."""
        way, route = self._way, self._route
        took_s, said = perf_counter() - route.began, None
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
        if self._failure is None:
            way.note_answer(route, Arm.CANDIDATE, response, took_s)
        else:  # that the candidate failed it was noted before
            way.tell(route, Arm.STABLE, response)

    def _parameters(self, own: Parameters) -> Parameters:
        """A reply's, with what the release has to say."""
        if self._failure is None:
            return self._way.one_more(own, RELEASE, _CANDIDATE)
        reason = f"the candidate failed: {self._failure}; answered by stable"[:MAX_REASON_CHARACTERS]
        return {**own, RELEASE: _STABLE, "reason": reason}

    def _is_asked_again(self, error: BaseException) -> bool:
        """Notes a failure that is the candidate's; whether stable is asked now."""
        way, route = self._way, self._route
        if not way.is_the_arms_fault(error):
            return False
        is_replaced = not isinstance(error, DeadlineExceededError)
        way.note_failure(route, Arm.CANDIDATE, error, perf_counter() - route.began, is_replaced=is_replaced)
        if is_replaced:
            self._failure = str(error)
            stable = versioned(route.request, route.split.stable_version)
            self._withdraw = way.ask(stable, self._told)
        return is_replaced


def _fenced(active: ActiveRelease, told: Parameters) -> Parameters:
    """Also says why stable answers everything."""
    active.fence.answers += 1
    return {**told, "reason": active.fence.because_for_callers}


def _nothing(*_: object) -> None:
    """Once the caller was told, or waits no more."""


# Made by hand: `dataclasses.replace` takes 2 us more, each, of every request's way.
def versioned(request: InferenceRequest, version: str) -> InferenceRequest:
    """The same, of that version."""
    return InferenceRequest(
        request.model, request.inputs, version, request.id, request.outputs, request.parameters, request.deadline
    )

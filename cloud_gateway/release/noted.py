"""What is noted of a request within a release, once its caller has the answer: for guards, log and labels, and for the mirror.

On the way of every request, but behind its caller's back where the transport hands a reply over at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cloud_gateway.guards import Arm
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.answering import Answered, Traffic
from cloud_gateway.release.request_log import Asked
from cloud_gateway.release.split import Place, Split
from runtime.errors import CallerError, CancelledError, EdgewardError, ModelNotFoundError, OverloadedError
from runtime.serving.asking import Ask
from runtime.tensors import Array
from runtime.wire.repeats import OneMore
from runtime.wire.values import InferenceRequest, InferenceResponse


class Route(NamedTuple):
    """A request, and where it went."""

    active: ActiveRelease
    split: Split
    """That held when it came."""
    request: InferenceRequest
    where: Place
    segment: str
    began: float
    """By `time.perf_counter`."""


@dataclass(frozen=True, slots=True)
class Way:
    """What all requests of a gateway have in common."""

    ask: Ask
    """Of the service that runs models."""
    is_ready: Callable[[], bool]
    """Whether that one answers anybody."""
    traffic: Traffic
    one_more: OneMore

    def is_the_arms_fault(self, error: BaseException) -> bool:
        """Whether another version might have answered. One that is not there any more is no caller's fault: we chose it."""
        if not isinstance(error, EdgewardError) or isinstance(error, CancelledError) or not self.is_ready():
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

    def note_answer(self, route: Route, arm: Arm, response: InferenceResponse, took_s: float) -> None:
        """That `arm` answered. The caller has its answer: what goes wrong here is counted as lost, and said."""
        active, split, request, where, segment, _ = route
        try:
            active.note_request((arm, False, took_s, where, segment, split.share, False))
            outputs = None if request.outputs and _is_in_words(request) else response.outputs
            if arm is Arm.STABLE:
                share = active.mirrored_share
                is_mirrored = share > 0.0 and active.mirror is not None and outputs is not None and _is_drawn(share)
            else:
                active.note_candidate(None)
                is_mirrored = _is_checked(route)
            asked = None
            if self.traffic.log is not None:
                asked = self.log(request, split.routing_key, segment, arm, took_s, is_error=False, is_later=is_mirrored)
            if is_mirrored:
                self._offer(route, arm, outputs, asked)
            self.tell(route, arm, response)
        except Exception as error:
            active.note_untold(error)

    def note_failure(self, route: Route, arm: Arm, error: BaseException, took_s: float, *, is_replaced: bool) -> None:
        """That `arm` failed, which was its own fault; `is_replaced`: stable is asked now."""
        active, split, request, where, segment, _ = route
        active.note_request((arm, True, took_s, where, segment, split.share, is_replaced))
        # How loaded the gateway is, is neither version's doing, and stable is asked here without a queue.
        is_checked = is_replaced and not isinstance(error, OverloadedError) and _is_checked(route)
        asked = self.log(request, split.routing_key, segment, arm, took_s, is_error=True, is_later=is_checked)
        if arm is Arm.CANDIDATE:
            active.note_candidate(str(error))
        if is_checked:
            self._offer(route, arm, None, asked, str(error))

    def tell(self, route: Route, arm: Arm, response: InferenceResponse) -> None:
        """Tells whoever keeps answers until labels come, where a guard waits for those."""
        active = route.active
        if not active.waits_for_labels or (tell := self.traffic.on_answer) is None:
            return
        answered = Answered(
            response.model,
            response.version,
            route.split.release,
            arm,
            response.id,
            route.segment,
            response.outputs,
            is_shadow=False,
        )
        try:
            tell(answered)
        except Exception as error:
            active.note_untold(error)

    def _offer(
        self, route: Route, arm: Arm, outputs: Mapping[str, Array] | None, asked: Asked | None, failure: str = ""
    ) -> None:
        """Gives a request to the version that did not have its caller too, where there is room."""
        mirror, request, log = route.active.mirror, route.request, self.traffic.log
        assert mirror is not None, "who is mirrored was asked before"
        is_taken = mirror.offer(request.inputs, outputs, route.segment, request.id, arm, failure, asked)
        if not is_taken and asked is not None and log is not None:
            log.write(asked)


def _is_checked(route: Route) -> bool:
    """While stable has no callers it is given a share of the candidate's requests, drawn whatever became of them."""
    has_all = route.split.share == 1.0 and route.active.mirror is not None
    return has_all and _is_drawn(route.active.control_share)


def _is_drawn(share: float) -> bool:
    return share >= 1.0 or random.random() < share  # noqa: S311  (a sample, no secret)


def _is_in_words(request: InferenceRequest) -> bool:
    """Whether an answer was asked for as class names and scores, which cannot be compared number by number."""
    return any("classification" in output.parameters for output in request.outputs)

"""On the way of every request: which version answers it, and what was seen of that."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cloud_gateway.guards import Arm
from cloud_gateway.release.active import FENCED, MOST_KEPT_FOR_REPORT, ActiveRelease
from cloud_gateway.release.mirror import Mirrored
from cloud_gateway.release.request_log import Asked, RequestLog
from cloud_gateway.release.split import Place, Split, place, random_place
from runtime.errors import (
    CallerError,
    CancelledError,
    ConflictError,
    DeadlineExceededError,
    EdgewardError,
    ModelNotFoundError,
    OverloadedError,
)
from runtime.serving.asking import Answer, Withdraw, ask_in_task, ask_of
from runtime.serving.layered import Layered
from runtime.serving.service import InferenceService
from runtime.tensors import Array
from runtime.wire.repeats import OneMore
from runtime.wire.values import (
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Parameters,
)

log = logging.getLogger(__name__)

RELEASE: Final = "release"
"""The reply parameter that says which arm answered."""
MAX_REASON_CHARACTERS: Final = 500
# As plans have them where they say nothing else: what the log of requests goes by while no release runs.
DEFAULT_KEY: Final = "routing_key"
DEFAULT_SEGMENT: Final = "segment"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer within a release, for whoever keeps answers until labels come."""

    model: str
    version: str
    release: int
    arm: Arm
    request_id: str
    segment: str
    outputs: Mapping[str, Array]
    is_shadow: bool
    """Nobody was sent it: the candidate's answer beside stable's."""


@dataclass
class Traffic:
    """What the service and the controller share, on one event loop: who answers what now."""

    active: dict[str, ActiveRelease] = field(default_factory=dict)
    """By model."""
    pins: dict[str, str] = field(default_factory=dict)
    """Model → the version that answers requests which name none; without it the engine's newest does."""
    log: RequestLog | None = None
    """Told of every request that names no version."""
    on_answer: Callable[[Answered], None] | None = None
    """Told of every answer within a release whose guards wait for labels, and of both answers to a bounded number of requests that
    a shadow compared; must be quick and must not raise."""

    def settled(self, model: str) -> str | None:
        """The version that has a model's traffic for good: stable until its release has ended; None: no release ever said."""
        active = self.active.get(model)
        return self.pins.get(model) if active is None else str(active.split.stable)

    def tell(self, mirrored: Mirrored, active: ActiveRelease) -> None:
        """Tells the log of a mirrored request, and `on_answer` what the version said to it that did not have its caller.

        Where only a shadow's report waits for labels, the answer that the caller had too: nothing else of that release is kept.
        """
        if self.log is not None and isinstance(mirrored.about, Asked):
            self.log.write(mirrored.about, mirrored)
        is_for_report = active.left_for_report > 0 and bool(mirrored.request_id)
        if self.on_answer is None or not (active.waits_for_labels or is_for_report):
            return
        split = active.split
        for arm, outputs in ((Arm.STABLE, mirrored.stable_outputs), (Arm.CANDIDATE, mirrored.candidate_outputs)):
            is_shadow = arm is not mirrored.answered
            if outputs is None or not (is_shadow or is_for_report):
                continue
            self.on_answer(
                Answered(
                    split.model,
                    split.version(arm),
                    split.release,
                    arm,
                    mirrored.request_id,
                    mirrored.segment,
                    outputs,
                    is_shadow,
                )
            )
        if is_for_report:
            active.left_for_report -= 1
            if not active.left_for_report:
                log.warning(
                    "release %d of %s: %d compared requests are kept until labels come, no more; a guard on losses keeps all",
                    split.release,
                    split.model,
                    MOST_KEPT_FOR_REPORT,
                )


class ReleaseService(Layered):
    """Before the service that runs models: requests that name no version get the one that releases say.

    A request that names a version is left alone. Used on one event loop.
    """

    def __init__(self, inner: InferenceService, traffic: Traffic) -> None:
        super().__init__(inner, inner.infer)
        self._ask_inner = ask_of(inner)
        self._ask_released = ask_in_task(self.infer)
        self._traffic = traffic
        self._one_more = OneMore()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The answer of the arm that the request's key falls to; stable's where the candidate fails."""
        if request.version:
            return await self._inner.infer(request)
        active = self._traffic.active.get(request.model)
        if active is not None:
            return await self._infer_released(active, request)
        chosen = self._pinned(request)
        began = time.perf_counter()
        try:
            response = await self._inner.infer(chosen)
        except EdgewardError as error:
            self._log_outside(chosen, began, error)
            raise
        self._log_outside(chosen, began, None)
        return response

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """`infer`; without a task outside of a release."""
        if request.version:
            return self._ask_inner(request, answer)
        if request.model in self._traffic.active:
            return self._ask_released(request, answer)
        chosen = self._pinned(request)
        if self._traffic.log is None:
            return self._ask_inner(chosen, answer)
        began = time.perf_counter()

        def told(response: InferenceResponse | None, error: BaseException | None) -> None:
            self._log_outside(chosen, began, error)
            answer(response, error)

        try:
            return self._ask_inner(chosen, told)
        except EdgewardError as error:
            self._log_outside(chosen, began, error)
            raise

    def _pinned(self, request: InferenceRequest) -> InferenceRequest:
        version = self._traffic.pins.get(request.model)
        return request if version is None else _versioned(request, version)

    def _log_outside(self, request: InferenceRequest, began: float, error: BaseException | None) -> None:
        """What the log is to know of a request outside of a release; nothing of errors that are no version's fault."""
        if self._traffic.log is None:
            return
        if error is None or (isinstance(error, EdgewardError) and self._is_the_arms_fault(error)):
            segment = str(request.parameters.get(DEFAULT_SEGMENT) or "")[:64]
            self._log(request, DEFAULT_KEY, segment, Arm.STABLE, began, is_error=error is not None)

    def _log(
        self,
        request: InferenceRequest,
        key: str,
        segment: str,
        arm: Arm,
        began: float,
        *,
        is_error: bool,
        is_later: bool = False,
    ) -> Asked | None:
        """What the log is to know of a request; `is_later`: it is told once the other version was given it too."""
        if self._traffic.log is None:
            return None
        name = str(request.parameters.get(key) or request.id or "")
        asked = Asked(request.model, name, segment, arm, is_error, time.perf_counter() - began)
        if not is_later:
            self._traffic.log.write(asked)
        return asked

    async def _infer_released(self, active: ActiveRelease, request: InferenceRequest) -> InferenceResponse:
        began = time.perf_counter()
        split = active.split if began < active.trusted_until else active.fenced
        where = _place(split.salt, request, split.routing_key)
        arm = split.arm(where)
        segment = active.segments.of(request.parameters.get(split.segment)) if split.segment else ""
        try:
            response = await self._inner.infer(_versioned(request, split.version(arm)))
        except (EdgewardError, asyncio.CancelledError) as error:
            if not isinstance(error, EdgewardError) or not self._is_the_arms_fault(error):
                raise
            is_replaced = arm is Arm.CANDIDATE and not isinstance(error, DeadlineExceededError)
            took_s = time.perf_counter() - began
            active.note_request((arm, True, took_s, where, segment, split.share, is_replaced))
            # How loaded the gateway is, is neither version's doing, and stable is asked here without a queue.
            is_checked = (
                arm is Arm.CANDIDATE
                and not isinstance(error, DeadlineExceededError | OverloadedError)
                and self._is_checked(active, split, request)
            )
            asked = self._log(request, split.routing_key, segment, arm, began, is_error=True, is_later=is_checked)
            if arm is not Arm.CANDIDATE:
                raise
            active.note_candidate(str(error))
            if is_checked:
                self._offer(active, request, None, segment, Arm.CANDIDATE, asked, str(error))
            if isinstance(error, DeadlineExceededError):
                raise
            return await self._answer_instead(active, request, error, segment)
        active.note_request((arm, False, time.perf_counter() - began, where, segment, split.share, False))
        if arm is Arm.CANDIDATE:
            active.note_candidate(None)
            is_mirrored = self._is_checked(active, split, request)
        else:
            is_mirrored = active.mirror is not None and _is_mirrored(active.mirrored_share)
            is_mirrored = is_mirrored and not _is_in_words(request)
        asked = self._log(request, split.routing_key, segment, arm, began, is_error=False, is_later=is_mirrored)
        if is_mirrored:
            outputs = None if _is_in_words(request) else response.outputs
            self._offer(active, request, outputs, segment, arm, asked)
        self._tell(active, arm, response, segment)
        told = self._one_more(response.parameters, RELEASE, arm.value)
        if split is active.fenced:
            active.fenced_answers += 1
            told = {**told, "reason": FENCED}
        return _saying(response, told)

    @staticmethod
    def _is_checked(active: ActiveRelease, split: Split, request: InferenceRequest) -> bool:
        """While stable has no callers it is given a share of the candidate's requests, drawn whatever became of them."""
        has_all = split.share == 1.0 and active.mirror is not None
        return has_all and _is_mirrored(active.control_share)

    def _offer(
        self,
        active: ActiveRelease,
        request: InferenceRequest,
        outputs: Mapping[str, Array] | None,
        segment: str,
        arm: Arm,
        asked: Asked | None,
        failure: str = "",
    ) -> None:
        """Gives a request that `arm` had the caller of to the other version too, where there is room."""
        assert active.mirror is not None, "who is mirrored was asked before"
        is_taken = active.mirror.offer(request.inputs, outputs, segment, request.id, arm, failure, asked)
        if not is_taken and asked is not None and self._traffic.log is not None:
            self._traffic.log.write(asked)

    async def _answer_instead(
        self, active: ActiveRelease, request: InferenceRequest, error: EdgewardError, segment: str
    ) -> InferenceResponse:
        """Stable's answer to a request that the candidate failed."""
        response = await self._inner.infer(_versioned(request, active.split.version(Arm.STABLE)))
        self._tell(active, Arm.STABLE, response, segment)
        reason = f"the candidate failed: {error}; answered by stable"[:MAX_REASON_CHARACTERS]
        return _saying(response, {**response.parameters, RELEASE: Arm.STABLE.value, "reason": reason})

    def _is_the_arms_fault(self, error: EdgewardError) -> bool:
        """Whether another version might have answered. One that is not there any more is no caller's fault: we chose it."""
        if isinstance(error, CancelledError) or not self._inner.is_ready():
            return False
        return isinstance(error, ModelNotFoundError) or not isinstance(error, CallerError)

    def _tell(self, active: ActiveRelease, arm: Arm, response: InferenceResponse, segment: str) -> None:
        if self._traffic.on_answer is not None and active.waits_for_labels:
            self._traffic.on_answer(
                Answered(
                    response.model,
                    response.version,
                    active.split.release,
                    arm,
                    response.id,
                    segment,
                    response.outputs,
                    is_shadow=False,
                )
            )

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """Of the version that would answer."""
        return await super().describe_model(name, version or self._traffic.pins.get(name, ""))

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether the version that would answer is ready."""
        return await super().is_model_ready(name, version or self._traffic.pins.get(name, ""))

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Loads a model; `ConflictError` while it is being released."""
        self._refuse_while_released(name, "loaded anew")
        await super().load(name, parameters)

    async def unload(self, name: str) -> None:
        """Unloads a model; `ConflictError` while it is being released."""
        self._refuse_while_released(name, "unloaded")
        await super().unload(name)

    def _refuse_while_released(self, name: str, what: str) -> None:
        active = self._traffic.active.get(name)
        if active is not None:
            raise ConflictError(
                f"model {name!r} cannot be {what}: release {active.release.id} of it is {active.state.status.words}; "
                f"end that first: edgeward release abort {name}"
            )


# Made by hand: `dataclasses.replace` takes 2 us more, each, of every request's way.
def _versioned(request: InferenceRequest, version: str) -> InferenceRequest:
    return InferenceRequest(
        request.model, request.inputs, version, request.id, request.outputs, request.parameters, request.deadline
    )


def _saying(response: InferenceResponse, parameters: Parameters) -> InferenceResponse:
    return InferenceResponse(response.model, response.version, response.outputs, response.id, parameters)


def _place(salt: bytes, request: InferenceRequest, routing_key: str) -> Place:
    key = request.parameters.get(routing_key)
    if key is None:
        key = request.id
    return random_place() if key == "" else place(salt, str(key))


def _is_mirrored(share: float) -> bool:
    return share >= 1.0 or random.random() < share  # noqa: S311  (a sample, no secret)


def _is_in_words(request: InferenceRequest) -> bool:
    """Whether an answer was asked for as class names and scores, which cannot be compared number by number."""
    return bool(request.outputs) and any("classification" in output.parameters for output in request.outputs)

"""On the way of every request: which version answers it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from cloud_gateway.guards import Arm
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.noted import Way
from cloud_gateway.release.released import ask_within, versioned
from runtime.errors import ConflictError, EdgewardError
from runtime.serving.asking import Answer, Withdraw, answer_of, ask_of
from runtime.serving.layered import Layered
from runtime.serving.service import InferenceService
from runtime.wire.repeats import OneMore
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription

# As plans have them where they say nothing else: what the log of requests goes by while no release runs.
DEFAULT_KEY: Final = "routing_key"
DEFAULT_SEGMENT: Final = "segment"


class ReleaseService(Layered):
    """Before the service that runs models: requests that name no version get the one that releases say.

    A request that names a version is left alone. Used on one event loop.
    """

    def __init__(self, inner: InferenceService, traffic: Traffic) -> None:
        super().__init__(inner, inner.infer)
        self._ask_inner = ask_of(inner)
        self._traffic = traffic
        self._way = Way(self._ask_inner, inner.is_ready, traffic, OneMore())

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The answer of the arm that the request's key falls to; stable's where the candidate fails."""
        return await answer_of(self.ask, request)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """The same by calls."""
        if request.version:
            return self._ask_inner(request, answer)
        active = self._traffic.active.get(request.model)
        if active is not None:
            return ask_within(self._way, active, request, answer)
        version = self._traffic.pins.get(request.model)
        chosen = request if version is None else versioned(request, version)
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

    def _log_outside(self, request: InferenceRequest, began: float, error: BaseException | None) -> None:
        """What the log is to know of a request outside of a release; nothing of errors that are no version's fault."""
        if error is None or self._way.is_the_arms_fault(error):
            segment = str(request.parameters.get(DEFAULT_SEGMENT) or "")[:64]
            took_s = time.perf_counter() - began
            self._way.log(request, DEFAULT_KEY, segment, Arm.STABLE, took_s, is_error=error is not None)

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

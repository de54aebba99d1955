"""A service whose `infer` is another's and whose rest is passed on: how a program puts something before a service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from runtime.serving.asking import Answer, Ask, Withdraw, ask_in_task
from runtime.serving.service import InferenceService
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import IndexEntry, InferenceRequest, InferenceResponse, ModelDescription, ServerDescription


class Layered:
    """An `InferenceService`: `infer` as given, everything else `inner`'s.

    `ask` is the short way of `infer`; what is put before a service has one where most requests pass by it.
    """

    def __init__(
        self,
        inner: InferenceService,
        infer: Callable[[InferenceRequest], Awaitable[InferenceResponse]],
        ask: Ask | None = None,
    ) -> None:
        self._inner = inner
        self._infer = infer
        self._ask = ask_in_task(infer) if ask is None else ask

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """What was put before the service."""
        return await self._infer(request)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """The same without a task, where that was given."""
        return self._ask(request, answer)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """Passed on."""
        return await self._inner.describe_model(name, version)

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Passed on."""
        return await self._inner.is_model_ready(name, version)

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        """Passed on."""
        return self._inner.statistics(name, version)

    def describe_server(self) -> ServerDescription:
        """Passed on."""
        return self._inner.describe_server()

    def is_live(self) -> bool:
        """Passed on."""
        return self._inner.is_live()

    def is_ready(self) -> bool:
        """Passed on."""
        return self._inner.is_ready()

    def index(self) -> list[IndexEntry]:
        """Passed on."""
        return self._inner.index()

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Passed on."""
        await self._inner.load(name, parameters)

    async def unload(self, name: str) -> None:
        """Passed on."""
        await self._inner.unload(name)

    async def drain(self) -> None:
        """Passed on."""
        await self._inner.drain()

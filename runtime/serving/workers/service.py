"""One of several workers behind the same ports, as a service: it answers for all of them, or says that it cannot.

A connection reaches any one worker. So statistics are the sum over all, and what would change one worker alone is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from runtime.errors import UnsupportedError
from runtime.serving.asking import Ask
from runtime.serving.service import InferenceService
from runtime.serving.workers.shared_statistics import SharedStatistics
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import IndexEntry, InferenceRequest, InferenceResponse, ModelDescription, ServerDescription


class WorkerService:
    """`service` as one of `count` workers."""

    def __init__(self, service: InferenceService, shared: SharedStatistics, count: int) -> None:
        self._service = service
        self.ask: Ask | None = getattr(service, "ask", None)
        """The short way of `service`, where it has one."""
        self._shared = shared
        self._count = count

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """By this worker."""
        return await self._service.infer(request)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """As this worker has it; all serve the same."""
        return await self._service.describe_model(name, version)

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Of this worker."""
        return await self._service.is_model_ready(name, version)

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        """Of all workers; what the others did is at most `PUBLISH_EVERY_S` old."""
        return self._shared.with_others(self._service.statistics(name, version))

    def describe_server(self) -> ServerDescription:
        """Name, version and extensions."""
        return self._service.describe_server()

    def is_live(self) -> bool:
        """Of this worker."""
        return self._service.is_live()

    def is_ready(self) -> bool:
        """Of this worker."""
        return self._service.is_ready()

    def index(self) -> list[IndexEntry]:
        """As this worker has it."""
        return self._service.index()

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Refused: the others would not know."""
        self._refuse(f"loading {name!r}")

    async def unload(self, name: str) -> None:
        """Refused: the others would not know."""
        self._refuse(f"unloading {name!r}")

    async def drain(self) -> None:
        """Answers what was accepted; the last totals are told."""
        await self._service.drain()
        self._shared.tell(self._service.statistics("", ""))

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(
            f"{what} would change one worker of {self._count}: a connection reaches any one of them; "
            "change the model repository and let --poll load it in all of them, or serve with one worker"
        )

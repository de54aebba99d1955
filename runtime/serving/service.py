"""What stands behind every transport: one interface, whoever answers.

`LocalService` (runtime) runs models here; `AgentService` (edge_agent) decides between here and the cloud; the gateway puts keys
and releases before the local one. Transports translate messages and know only this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import IndexEntry, InferenceRequest, InferenceResponse, ModelDescription, ServerDescription


class InferenceService(Protocol):
    """Answers the Open Inference Protocol. Called on the event loop; must not block it for longer than a small model takes.

    Every method raises errors of `runtime.errors` and no others.
    """

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """One inference. Cancelling the awaiting task withdraws the request."""

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """Signature and versions of a ready model; empty `version`: the policy's choice. `ModelNotFoundError` otherwise."""

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether `infer` would be answered; False for an unknown model."""

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        """What ready models did here since they were loaded: one version, all versions of a name, or without one all.

        `ModelNotFoundError` for a name or version that is not served.
        """

    def describe_server(self) -> ServerDescription:
        """Name, version and extensions of this server."""

    def is_live(self) -> bool:
        """Whether the process works at all."""

    def is_ready(self) -> bool:
        """Whether new requests are welcome: False while starting and while draining."""

    def index(self) -> list[IndexEntry]:
        """Every model version that this server knows, and its state."""

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Loads or reloads a model of the repository by name."""

    async def unload(self, name: str) -> None:
        """Unloads every version of a model once their requests in flight are answered."""

    async def drain(self) -> None:
        """Takes no new requests, so `is_ready` is False from now on, and returns once the accepted ones are answered."""

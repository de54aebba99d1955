"""The standard gRPC health service (grpc.health.v1) over one `InferenceService`: what probes and load balancers ask.

It knows the server as a whole ("") and the inference service by name; a single model's state is ModelReady's matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from protos import health, inference
from runtime.errors import ModelNotFoundError
from runtime.serving.grpc.calls import Context, ReadMessage, refuse, unary_handler
from runtime.serving.service import InferenceService
from runtime.wire.grpc_codec import parse

SERVICES = ("", inference.SERVICE)

# How late a watcher may learn of a change; a look costs microseconds.
WATCH_INTERVAL_S = 0.25


class HealthRpcs:
    """Check, List and Watch; open to everybody. `closing` is set once the server takes no new calls."""

    def __init__(self, service: InferenceService, closing: asyncio.Event, read: ReadMessage) -> None:
        self._service = service
        self._closing = closing
        self._read = read

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """A handler for every RPC of the service."""
        return {
            "Check": unary_handler(health.HealthCheckRequest, self.check, None, self._closing, self._read),
            "List": unary_handler(health.HealthListRequest, self.list_all, None, self._closing, self._read),
            "Watch": grpc.stream_stream_rpc_method_handler(self.watch),
        }

    async def check(self, message: health.HealthCheckRequest) -> health.HealthCheckResponse:
        """The state now."""
        if message.service not in SERVICES:
            raise ModelNotFoundError(f"no service {message.service!r:.200} here; ask for '' or {inference.SERVICE!r}")
        return self._state(message.service)

    async def list_all(self, _: health.HealthListRequest) -> health.HealthListResponse:
        """The state of every service now."""
        return health.HealthListResponse(statuses={name: self._state(name) for name in SERVICES})

    async def watch(self, _: AsyncIterator[bytes], context: Context) -> None:
        """The state now and at every change, until the caller leaves or the server closes."""
        try:
            service = parse(health.HealthCheckRequest, await self._read(context)).service
            told = None
            while True:
                is_closing = self._closing.is_set()
                state = self._state(service)
                if state != told:
                    await context.write(state.SerializeToString())
                    told = state
                if is_closing:
                    return
                await self._pause()
        except Exception as error:
            await refuse(context, error)

    def _state(self, service: str) -> health.HealthCheckResponse:
        states = health.HealthCheckResponse.ServingStatus
        if service not in SERVICES:
            return health.HealthCheckResponse(status=states.SERVICE_UNKNOWN)
        is_ready = self._service.is_ready() and not self._closing.is_set()
        return health.HealthCheckResponse(status=states.SERVING if is_ready else states.NOT_SERVING)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(WATCH_INTERVAL_S):
                await self._closing.wait()
        except TimeoutError:
            return

"""gRPC on the event loop itself: our HTTP/2 for servers, without the threads and hops of `grpc.aio`.

ModelInfer is answered by calls, without a task of its own; every other RPC by the handlers that grpcio's server has too.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runtime.errors import DeadlineExceededError
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.grpc.asyncio_calls import Calls, stopped_error
from runtime.serving.grpc.handler_call import HandlerCall
from runtime.serving.grpc.infer_call import InferCall
from runtime.serving.grpc.receiving import MESSAGE_LIMIT_S, Receiving
from runtime.serving.grpc.server import (
    KEEPALIVE_TIME_MS,
    KEEPALIVE_TIMEOUT_MS,
    QUIET_S,
)
from runtime.serving.http2.connection import Http2Connection
from runtime.serving.http2.frames import ConnectionFault, ErrorCode
from runtime.serving.http2.stream import Stream
from runtime.serving.limits import DEFAULT_MAX_MESSAGE_BYTES
from runtime.serving.service import InferenceService
from runtime.serving.sockets import Endpoint, listen
from runtime.serving.unix_socket import listen_unix

GREETING_LIMIT_S: Final = 20.0
"""For who connects and does not begin, and for who does not take the last that we wrote."""
LOOK_EVERY_S: Final = 1.0
LOOK_WHEN_CLOSING_S: Final = 0.005
CLOSE_LIMIT_S: Final = 0.5
"""How long clients may take to pick up their last answers at least, and to go once they are cut off."""


class AsyncioGrpcServer:
    """The same as `GrpcServer` on our own HTTP/2: `bind`, then `start`, then `stop`. Lives on one event loop."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        *,
        authorize: Authorize | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        shares_port: bool = False,
        reflects: bool = False,
        message_limit_s: float = MESSAGE_LIMIT_S,
    ) -> None:
        self._shares_port = shares_port
        self._closing = asyncio.Event()
        self._message_limit_s = message_limit_s
        self._calls = Calls(
            service, controls, self._closing, authorize, max_message_bytes, reflects, Receiving(message_limit_s)
        )
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[Http2Connection] = set()
        self._look: asyncio.TimerHandle | None = None
        self._ends_at = math.inf
        """When `stop` waits no longer."""

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Takes the address and says it with its real port; `PortInUseError` when somebody listens there."""
        listener = listen(endpoint, "gRPC", is_shared=self._shares_port)
        self._sockets.append(listener)
        return Endpoint(endpoint.host, listener.getsockname()[1])

    def bind_unix(self, path: str) -> None:
        """Takes a Unix socket too; `MachineError` when that cannot be."""
        self._sockets.append(listen_unix(Path(path)))

    async def start(self) -> None:
        """Begins to answer."""
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                self._servers.append(await loop.create_server(self._connect, sock=listener))
            else:
                self._servers.append(await loop.create_unix_server(self._connect, sock=listener))
        self._look_at_clients()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, answers those accepted, and cuts off what `grace_s` was too short for."""
        loop = asyncio.get_running_loop()
        self._ends_at = min(self._ends_at, loop.time() + grace_s)
        self._closing.set()
        for server in self._servers:
            server.close()
        if not self._servers:
            for listener in self._sockets:
                listener.close()
        for connection in self._connections:
            connection.say_goodbye()
        if self._connections and grace_s > 0:
            await asyncio.sleep(min(QUIET_S, grace_s))  # calls on their way are told, rather than left
        await self._until(lambda: not any(connection.streams for connection in self._connections))
        self._end_calls()
        if self._look is not None:
            self._look.cancel()
        for connection in list(self._connections):
            connection.close()
        await self._until(lambda: not self._connections, CLOSE_LIMIT_S)
        for connection in list(self._connections):
            connection.transport.abort()
        await self._until(lambda: not self._connections, CLOSE_LIMIT_S)

    async def cut_off(self) -> None:
        """Ends the calls under way at once; also while `stop` waits for them."""
        self._closing.set()
        self._ends_at = 0.0
        self._end_calls()

    def _end_calls(self) -> None:
        self._calls.cut_off()
        for connection in self._connections:
            for stream in list(connection.streams.values()):
                if isinstance(stream.receiver, InferCall) and stream.receiver.is_awaited:
                    stream.receiver.give_up(stopped_error())

    async def _until(self, is_so: Callable[[], bool], at_least_s: float = 0.0) -> None:
        """Waits for it until the grace of `stop` is over, and `at_least_s`."""
        loop = asyncio.get_running_loop()
        least = loop.time() + at_least_s
        while not is_so() and loop.time() < max(self._ends_at, least):  # noqa: ASYNC110  (of many, and only while closing)
            await asyncio.sleep(LOOK_WHEN_CLOSING_S)

    def _connect(self) -> Http2Connection:
        return Http2Connection(self._calls, self._connections)

    def _look_at_clients(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            if connection.closed_at is not None:
                if now - connection.closed_at > GREETING_LIMIT_S:
                    connection.transport.abort()
            elif not connection.is_greeted:
                if now - connection.made_at > GREETING_LIMIT_S:
                    connection.fail(ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection did not begin in time"))
            elif connection.pinged_at is not None:
                if now - connection.pinged_at > KEEPALIVE_TIMEOUT_MS / 1000:
                    connection.transport.abort()
            elif now - connection.heard_at > KEEPALIVE_TIME_MS / 1000:
                connection.ping()
            for stream in list(connection.streams.values()):
                self._look_at(stream, now)
        self._look = loop.call_later(min(LOOK_EVERY_S, self._message_limit_s / 4), self._look_at_clients)

    def _look_at(self, stream: Stream, now: float) -> None:
        receiver = stream.receiver
        if isinstance(receiver, InferCall | HandlerCall):
            since = receiver.awaited_since
            if since is not None and now - since > self._message_limit_s:
                late = f"the call's message was not whole after {self._message_limit_s:g} s"
                receiver.give_up(DeadlineExceededError(f"{late}; send it without pauses, or smaller ones"))
                return
        if isinstance(receiver, InferCall) and receiver.is_late:
            receiver.give_up(DeadlineExceededError("the deadline passed before the request was here whole"))
        elif stream.queue and now - stream.since > self._message_limit_s:
            stream.connection.reset(stream, ErrorCode.CANCEL)

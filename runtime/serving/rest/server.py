"""One uvicorn server that lives inside somebody else's event loop and leaves signals and logging to its host."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from runtime.serving.rest.connection import HttpConnection
from runtime.serving.rest.slow_clients import LOOK_EVERY_S, ClientPatience, SlowClients, cut
from runtime.serving.sockets import BACKLOG, Endpoint, listen
from runtime.serving.tls import ServerTls
from runtime.serving.unix_socket import listen_unix

# Clients keep connections between calls; a shorter limit makes them send on one that is just being closed.
KEEP_ALIVE_S = 75

DEFAULT_PATIENCE = ClientPatience()

# How long a client may take to pick up the error that its request was cut off with.
CUT_OFF_S = 0.5


class HttpServer:
    """One HTTP server over one ASGI application: `bind`, then `start`, then `stop`. Lives on one event loop."""

    def __init__(
        self,
        app: ASGIApp,
        tls: ServerTls | None = None,
        *,
        shares_port: bool = False,
        patience: ClientPatience = DEFAULT_PATIENCE,
    ) -> None:
        self._shares_port = shares_port
        self._patience = patience
        self._slow = SlowClients(patience)
        self._look: asyncio.TimerHandle | None = None
        self._config = uvicorn.Config(
            app,
            http=HttpConnection,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=BACKLOG,
            workers=1,
            ssl_certfile=None if tls is None else tls.cert_file,
            ssl_keyfile=None if tls is None else tls.key_file,
        )
        self._server = _EmbeddedServer(self._config)
        self._socket: socket.socket | None = None
        self._unix_socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    def bind(self, endpoint: Endpoint, what: str = "HTTP") -> Endpoint:
        """Takes the address and says it with its real port; `PortInUseError` when somebody listens there.

        `what` is to listen, in words: the error names the flag `--<what>-port`.
        """
        self._socket = listen(endpoint, what, is_shared=self._shares_port)
        return Endpoint(endpoint.host, self._socket.getsockname()[1])

    def bind_unix(self, path: Path) -> None:
        """Takes a Unix socket too; `PortInUseError` when somebody lives on it."""
        self._unix_socket = listen_unix(path)

    async def start(self) -> None:
        """Begins to answer."""
        assert self._socket is not None, "bind comes before start"
        sockets = [self._socket] if self._unix_socket is None else [self._socket, self._unix_socket]
        self._task = asyncio.create_task(self._server.serve(sockets=sockets))
        up = asyncio.create_task(self._server.is_up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            up.cancel()
            self._task.result()
        self._look_at_clients()

    async def stop(self, grace_s: float) -> None:
        """Takes no new connections, answers requests under way, and cuts off what `grace_s` was too short for."""
        if self._task is None:
            for bound in (self._socket, self._unix_socket):
                if bound is not None:
                    bound.close()
            return
        self._server.should_exit = True
        if self._look is not None:
            self._look.cancel()
        await asyncio.wait({self._task}, timeout=grace_s)
        if not self._task.done():
            await self.cut_off()
        await self._task

    async def cut_off(self) -> None:
        """Ends the requests under way with an error, then every connection, at once."""
        state = self._server.server_state
        for connection in list(state.connections):
            assert isinstance(connection, HttpConnection), "uvicorn makes no others here"
            connection.cut_off()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_OFF_S)
        self._server.force_exit = True
        for connection in list(state.connections):
            connection.transport.close()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CUT_OFF_S)
        for connection in list(state.connections):
            connection.transport.abort()

    def _look_at_clients(self) -> None:
        loop = asyncio.get_running_loop()
        for connection, stage in self._slow.look(self._server.server_state.connections, loop.time()):
            cut(connection, stage, self._patience)
        pause_s = min(LOOK_EVERY_S, *(limit_s / 4 for limit_s in astuple(self._patience)))
        self._look = loop.call_later(pause_s, self._look_at_clients)


class _EmbeddedServer(uvicorn.Server):
    """Says when it is up, and does not touch the process's signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""One serving process: gRPC and REST over one service on one event loop, from taking the ports to the last answer.

    await serve(service, ServerSettings(), on_started=lambda at: print(at))

Programs build their service, call `serve`, and clean up after it returns.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from runtime import config
from runtime.serving.additions import Additions
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.grpc.asyncio_server import AsyncioGrpcServer
from runtime.serving.grpc.front import GrpcFront, choose_front
from runtime.serving.grpc.native import NativeGrpcServer
from runtime.serving.grpc.server import GrpcServer
from runtime.serving.log_format import LogFormat
from runtime.serving.memory.shared_memory import why_off
from runtime.serving.rest.app import rest_app
from runtime.serving.rest.server import HttpServer
from runtime.serving.service import InferenceService
from runtime.serving.settings import ServerSettings
from runtime.serving.sockets import Endpoint, resolve
from runtime.serving.tls import ServerTls
from runtime.serving.unix_socket import ONLY_ME, claim, only_me, remove
from runtime.telemetry.tracing import open_tracer

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server that has started can be reached."""

    grpc: Endpoint
    http: Endpoint
    grpc_front: str
    """What listens for gRPC, and why."""
    is_encrypted: bool = False
    """Whether both ports speak TLS, and nothing else."""

    @property
    def grpc_address(self) -> str:
        """As clients write it."""
        return f"grpcs://{self.grpc}" if self.is_encrypted else str(self.grpc)

    @property
    def http_address(self) -> str:
        """As clients write it."""
        return f"{'https' if self.is_encrypted else 'http'}://{self.http}"


_GRPC_SERVERS: Final = {
    GrpcFront.ASYNCIO: AsyncioGrpcServer,
    GrpcFront.NATIVE: NativeGrpcServer,
    GrpcFront.GRPCIO: GrpcServer,
}


class Server:
    """Both transports over one service. `start` takes the ports and begins; `stop` drains. Lives on one event loop."""

    def __init__(
        self,
        service: InferenceService,
        settings: ServerSettings,
        authorize: Authorize | None = None,
        additions: Additions | None = None,
        *,
        workers: int = 1,
    ) -> None:
        """`workers`: how many processes share the ports, this one among them."""
        shares_port = workers > 1
        self._service = service
        self._settings = settings
        self._authorize = authorize
        self._additions = additions = Additions() if additions is None else additions
        self._hurry = asyncio.Event()
        self._host = resolve(settings.host)
        self._controls = _controls(settings, self._host, service, additions, workers)
        is_loopback = Endpoint(self._host, 0).is_loopback
        self._tls = read_tls(settings)
        self._front = choose_front(settings.grpc_front, is_loopback=is_loopback, has_tls=self._tls is not None)
        self._grpc: AsyncioGrpcServer | NativeGrpcServer | GrpcServer
        grpc_server = partial(
            _GRPC_SERVERS[self._front.front],
            service,
            self._controls,
            authorize=authorize,
            max_message_bytes=settings.max_message_bytes,
            shares_port=shares_port,
            reflects=settings.grpc_reflection,
        )
        self._grpc = grpc_server() if self._tls is None else grpc_server(tls=self._tls)
        self._http = HttpServer(
            rest_app(
                service,
                self._controls,
                authorize=authorize,
                max_body_bytes=settings.max_message_bytes,
                additions=additions,
            ),
            self._tls,
            shares_port=shares_port,
        )

    async def start(self) -> Listening:
        """Takes both ports, then answers on both; `PortInUseError` names the one that is taken, and nothing runs."""
        try:
            http = self._http.bind(Endpoint(self._host, self._settings.http_port))
            grpc = self._grpc.bind(Endpoint(self._host, self._settings.grpc_port))
            if self._settings.http_uds is not None:
                self._http.bind_unix(self._settings.http_uds)
            if self._settings.uds is not None:
                claim(self._settings.uds)
                with only_me():
                    self._grpc.bind_unix(str(self._settings.uds))
                self._settings.uds.chmod(ONLY_ME)
            if not http.is_loopback and self._authorize is None:
                log.warning(
                    "listening on %s without an API key: whoever reaches this machine can use it; "
                    "set a key, or --host 127.0.0.1",
                    self._settings.host,
                )
            elif not http.is_loopback and self._tls is None:
                log.warning(
                    "API keys travel to %s in the clear; give --tls-cert and --tls-key, or let something in front encrypt",
                    self._settings.host,
                )
            await self._grpc.start()
            await self._http.start()
            if self._settings.shared_memory and (why := self._controls.memory.off_because) is not None:
                log.warning("shared memory is off: %s; --no-shared-memory asks for that", why)
        except BaseException:
            await asyncio.gather(self._grpc.stop(0), self._http.stop(0))
            self._remove_unix_sockets()
            raise
        return Listening(grpc, http, self._front.reason, self._tls is not None)

    async def stop(self, timeout_s: float) -> bool:
        """Takes no new requests, answers the accepted ones, and closes; False when `timeout_s` cut some off."""
        end = time.monotonic() + timeout_s
        self._additions.on_stop()
        await asyncio.gather(self._grpc.stop(timeout_s), self._http.stop(timeout_s))
        self._remove_unix_sockets()
        self._controls.close()
        drain = asyncio.create_task(self._service.drain())
        hurry = asyncio.create_task(self._hurry.wait())
        left_s = max(end - time.monotonic(), 0)
        await asyncio.wait({drain, hurry}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if self._controls.tracer is not None:
            await asyncio.to_thread(self._controls.tracer.close)
        if drain.done():
            drain.result()
            return True
        drain.cancel()
        log.warning("stopped with requests unanswered; if that was not asked for, raise drain_timeout_s")
        return False

    def _remove_unix_sockets(self) -> None:
        for path in (self._settings.uds, self._settings.http_uds):
            if path is not None:
                remove(path)

    async def cut_off(self) -> None:
        """Drops the requests under way, so that a `stop` that waits for them returns now."""
        self._hurry.set()
        await asyncio.gather(self._grpc.cut_off(), self._http.cut_off())


async def serve(
    service: InferenceService,
    settings: ServerSettings,
    *,
    on_started: Callable[[Listening], None] | None = None,
    authorize: Authorize | None = None,
    additions: Additions | None = None,
    stop: asyncio.Event | None = None,
    workers: int = 1,
) -> None:
    """Serves until SIGTERM, SIGINT or `stop`; then drains and returns within `drain_timeout_s`.

    `additions`: what the program adds; `workers`: see `Server`. `PortInUseError` and `WrongUseError` come before
    anything is served. A second signal ends the drain at once.
    """
    stop = stop or asyncio.Event()
    server = Server(service, settings, authorize, additions, workers=workers)
    cutting: list[asyncio.Task[None]] = []

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
        elif not cutting:
            log.warning("a second signal: requests under way are dropped")
            cutting.append(asyncio.create_task(server.cut_off()))

    with _signals(on_signal):
        listening = await server.start()
        try:
            if on_started is not None:
                on_started(listening)
            await stop.wait()
        finally:
            stop.set()
            await server.stop(settings.drain_timeout_s)
            await asyncio.gather(*cutting)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where it is installed."""
    try:
        import uvloop  # absent on Windows
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def read_tls(settings: ServerSettings) -> ServerTls | None:
    """The certificate and key that the settings name; `WrongUseError` where they will not do."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ServerTls.read(settings.tls_cert, settings.tls_key)


def _controls(
    settings: ServerSettings, host: str, service: InferenceService, additions: Additions, workers: int
) -> Controls:
    off = why_off(settings.shared_memory, Endpoint(host, 0).is_loopback, settings.host)
    fixed = None
    if workers > 1:
        fixed = f"{workers} workers share the ports, and a connection reaches any one of them"
        off = off or f"{fixed}, so that a region registered at one would be unknown to the others"
    tracer = None
    if settings.otlp_endpoint is not None:
        described = service.describe_server()
        here = additions.labels_of("", "")["served_by"]
        tracer = open_tracer(settings.otlp_endpoint, described.name, described.version, here, settings.trace_ratio)
    names_requests = settings.log_format is LogFormat.JSON
    return Controls.under(
        config.home(),
        settings.max_message_bytes,
        off,
        fixed,
        tracer=tracer,
        names_requests=names_requests,
        load=additions.load,
    )


@contextmanager
def _signals(on_signal: Callable[[], None]) -> Iterator[None]:
    """Calls `on_signal` on the event loop for SIGTERM and SIGINT; nothing off the main thread, where Python forbids it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)
    if sys.platform == "win32":
        before = {kind: signal.signal(kind, lambda *_: loop.call_soon_threadsafe(on_signal)) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
        return
    for kind in kinds:
        loop.add_signal_handler(kind, on_signal)
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)

"""A server in a thread of its own, for clients that block."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from runtime.serving.additions import Additions
from runtime.serving.bearer import Authorize
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.serving.server import Listening, run, serve
from runtime.serving.service import InferenceService
from runtime.serving.settings import ServerSettings
from tests.runtime.serving.fake_service import FakeService

T = TypeVar("T")
PATIENCE_S = 60


@dataclass
class Threaded:
    """A running server, and the way into its event loop."""

    service: Any
    """A `FakeService`, unless the test made another."""
    at: Listening
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    @property
    def grpc(self) -> str:
        return str(self.at.grpc)

    @property
    def http(self) -> str:
        return str(self.at.http)

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work` on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def do(self, work: Callable[[], object]) -> None:
        """Runs `work` on the server's loop."""
        self.loop.call_soon_threadsafe(work)


@contextmanager
def serving(
    authorize: Authorize | None = None,
    routes: Sequence[ExtraRoute] = (),
    make_service: Callable[[], InferenceService] = FakeService,
    **settings: Any,
) -> Iterator[Threaded]:
    """A fake service, or what `make_service` makes on the loop, behind both transports on free ports, until the block ends."""
    started = threading.Event()
    found: list[Threaded] = []
    failed: list[BaseException] = []

    async def body() -> None:
        service, stop = make_service(), asyncio.Event()

        def on_started(at: Listening) -> None:
            found.append(Threaded(service, at, asyncio.get_running_loop(), stop))
            started.set()

        chosen = ServerSettings(**{"grpc_port": 0, "http_port": 0, "drain_timeout_s": 5, **settings})
        additions = Additions(routes=routes)
        await serve(service, chosen, on_started=on_started, authorize=authorize, additions=additions, stop=stop)

    def in_thread() -> None:
        try:
            run(body())
        except BaseException as error:
            failed.append(error)
            started.set()

    thread = threading.Thread(target=in_thread, name="server")
    thread.start()
    assert started.wait(PATIENCE_S)
    if failed:
        thread.join(PATIENCE_S)
        raise failed[0]
    try:
        yield found[0]
    finally:
        if thread.is_alive():
            found[0].do(found[0].stop.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server did not stop"
    if failed:
        raise failed[0]

"""An admin port in a thread of its own, for clients that block."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cloud_gateway.admin.app import AdminRoute
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.admin.server import admin_server

KEY = "edgeward_admin_of-these-tests-alone-0123456789"
PATIENCE_S = 20


@contextmanager
def serving_admin(routes: Sequence[AdminRoute]) -> Iterator[str]:
    """`routes` behind `KEY` on a free port of 127.0.0.1; its address."""
    started = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    found: list[str] = []

    async def body() -> None:
        async with admin_server("127.0.0.1", 0, routes, AdminKey(KEY)) as at:
            stop.append((asyncio.get_running_loop(), asyncio.Event()))
            found.append(str(at))
            started.set()
            await stop[0][1].wait()

    thread = threading.Thread(target=asyncio.run, args=(body(),))
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        yield found[0]
    finally:
        if stop:
            stop[0][0].call_soon_threadsafe(stop[0][1].set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()

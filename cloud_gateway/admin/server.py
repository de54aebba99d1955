"""The admin port: taken before anything is served, open while the gateway serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cloud_gateway.admin.app import AdminRoute, admin_app
from cloud_gateway.admin.reviewers import ReviewerKeys
from runtime.serving.bearer import Authorize
from runtime.serving.rest.server import HttpServer
from runtime.serving.sockets import Endpoint, resolve

# Admin requests are short; what still runs when a gateway ends is cut off after this.
STOP_S: Final = 2.0


@asynccontextmanager
async def admin_server(
    host: str, port: int, routes: Sequence[AdminRoute], authorize: Authorize, reviewers: ReviewerKeys | None = None
) -> AsyncIterator[Endpoint]:
    """Answers `routes` at the address that it yields, until the block ends; `PortInUseError` before anything runs.

    Port 0 stands for any free one.
    """
    address = Endpoint(resolve(host), port)
    server = HttpServer(admin_app(routes, authorize, is_loopback=address.is_loopback, reviewers=reviewers))
    at = server.bind(address, "admin")
    try:
        await server.start()
        yield at
    finally:
        await server.stop(STOP_S)

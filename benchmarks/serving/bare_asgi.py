"""A bare ASGI application on uvicorn: a body in, a body out; what the baselines over HTTP share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import uvicorn
from starlette.types import Receive, Scope, Send

Respond = Callable[[bytes], Awaitable[bytes]]
"""The body of the reply to the body of a request."""


def serve(respond: Respond, port: int) -> None:
    """Answers any request on `port` by `respond`, until it is stopped."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body = message["body"]
        while message.get("more_body", False):
            message = await receive()
            body += message["body"]
        reply = await respond(body)
        headers = [(b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    uvicorn.run(application, port=port, lifespan="off", log_level="warning", access_log=False)

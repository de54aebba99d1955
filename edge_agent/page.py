"""The agent's status page at `/edgeward/`: who serves, how fast, what waits, how the gateway is, which backend and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runtime.pages.page import Answer, Asked, Page
from runtime.pages.sections import Document
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.telemetry.history_recorder import HistoryRecorder

PATH: Final = "/edgeward/"


def agent_page(name: str, recorder: HistoryRecorder, sections: Mapping[str, Document | None]) -> Page:
    """The page; `sections`: "status", as `agent status` shows it, and "drift" where this device watches its input."""
    return Page(name, "agent.html", ["agent.js"], recorder, {"status": None, "drift": None, **sections}, {})


def page_routes(page: Page) -> list[ExtraRoute]:
    """Where the agent's HTTP port answers it. Whoever may ask for the status may see the page."""
    routes = [
        ExtraRoute("GET", f"{PATH}{answer.path}", _on_request(answer), None, is_open=answer.is_open)
        for answer in page.answers()
    ]
    return [ExtraRoute("GET", PATH.rstrip("/"), _go_there, None, is_open=True), *routes]


def _on_request(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def reply(request: Request) -> Response:
        return await answer.reply(Asked(request.query_params, request.headers))

    return reply


async def _go_there(_: Request) -> Response:
    return RedirectResponse(PATH)

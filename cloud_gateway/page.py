"""The gateway's page, `/` of the admin port: is it healthy, is the new version better, is the input still the same, who decides,
and what did the system do.

Each part hands in a document; one that is None shows as "not set up". What the page shows of them, and nothing else that they
say, so that each number stands beside words of the page:

    status      models: as `describe_models`
    releases    releases: [model, stable, candidate, strategy, status, share (0 to 1), stage, stages (percent), reason, arms,
                verdict: as `Verdict.to_dict`, trouble, waves, replaced_by_stable, lost_observations, fenced_answers,
                changed_unix_ms]
    drift       models: [model, version, seen_by, verdict, reason, findings: [feature, kind, detail, since, next, size,
                example], estimate: [said, assumes], statistics, errors], figures
    automation  models: [model, segment, level, since, reason]
    reviews     waiting
    decisions   decisions: [at or unix_ms, what or event, model, reason or document.reason, who, acted, is_own]

Items are answered on a plain page of their own, `REVIEW_PATH`: reviewers' keys open that, and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.responses import Response

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from runtime.pages.page import Answer, Asked, Page
from runtime.pages.sections import Document
from runtime.pages.static_files import StaticFile, read_file
from runtime.telemetry.history_recorder import HistoryRecorder

REVIEW_PATH: Final = "/review"
SECTIONS: Final = ("status", "releases", "drift", "automation", "reviews", "decisions")


def gateway_page(
    name: str,
    recorder: HistoryRecorder,
    sections: Mapping[str, Document | None],
    *,
    release_path: str | None = None,
    review_path: str | None = None,
) -> Page:
    """The page.

    `release_path`: where POST promotes, pauses, aborts or rolls back, with {model} and {action} in it; `review_path`: where
    items are answered. None: the page has no buttons, or link, for that.
    """
    options = {"release_path": release_path, "review_path": review_path}
    return Page(
        name, "gateway.html", ["gateway.js", "release.js"], recorder, {**dict.fromkeys(SECTIONS), **sections}, options
    )


def page_routes(page: Page) -> list[AdminRoute]:
    """Where the admin port answers it: the files to everybody, the rest to who may read."""
    return [
        AdminRoute("GET", f"/{answer.path}", _on_request(answer), is_open=answer.is_open) for answer in page.answers()
    ]


def review_page_routes() -> list[AdminRoute]:
    """The page on which people answer, beside `page_routes`, whose other files it uses; it says nothing of this gateway."""
    files = {REVIEW_PATH: read_file("review.html"), "/page/review.js": read_file("review.js")}
    return [AdminRoute("GET", path, _sends(file), is_open=True) for path, file in files.items()]


def _sends(file: StaticFile) -> Callable[[AdminRequest], Awaitable[Response]]:
    async def reply(request: AdminRequest) -> Response:
        return file.answer(request.headers.get("if-none-match"))

    return reply


def _on_request(answer: Answer) -> Callable[[AdminRequest], Awaitable[Response]]:
    async def reply(request: AdminRequest) -> Response:
        return await answer.reply(Asked(request.query, request.headers))

    return reply

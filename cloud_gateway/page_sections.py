"""What the parts of a gateway tell on their admin routes, as the documents that the page shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.automation.assembly import AUDITED_AS
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.plan import Strategy
from cloud_gateway.release.steps import Move
from runtime.errors import StorageError
from runtime.pages.sections import Document
from runtime.serving.metrics.labels import Labels, LabelsOf, in_the_cloud

# The page shows the newest lines; older ones are in the log, which `edgeward release` and the admin API read.
MAX_LINES: Final = 300
_AT_ONCE: Final = 1000
OWN_MOVES: Final = frozenset({Move.ADVANCE, Move.PROMOTE, Move.FINISH, Move.COMPLETE, Move.ROLLBACK})
"""What a release does by itself, unless a person asked for it."""


def section_documents(routes: Sequence[AdminRoute]) -> dict[str, Document | None]:
    """By section of the page; None where no route tells it."""
    told = {route.path: route for route in routes if route.method == "GET"}
    releases, levels, reviews = (told.get(f"/admin/{name}") for name in ("releases", "automation", "reviews"))
    audit, log = told.get("/admin/audit"), told.get("/admin/automation/log")
    return {
        "releases": None if releases is None else lambda: _ask(releases, limit="20"),
        "automation": None if levels is None else lambda: _levels(levels),
        "reviews": None if reviews is None else lambda: _waiting(reviews),
        "decisions": None if audit is None and log is None else Decisions(audit, log).tell,
    }


def roles_of(active: Mapping[str, ActiveRelease]) -> LabelsOf:
    """The labels of metrics while releases run: a release's candidate is that, or a shadow; every other version is stable."""

    def labels_of(model: str, version: str) -> Labels:
        running = active.get(model)
        if running is None or version != str(running.release.plan.candidate):
            return in_the_cloud(model, version)
        is_shadow = running.release.plan.strategy is Strategy.SHADOW
        return {"role": "shadow" if is_shadow else "candidate", "served_by": "cloud"}

    return labels_of


class Decisions:
    """The newest lines of the audit log of releases and of the log of automation, newest first."""

    def __init__(self, audit: AdminRoute | None, log: AdminRoute | None) -> None:
        self._audit = audit
        self._log = log
        self._lines: deque[Mapping[str, Any]] = deque(maxlen=MAX_LINES)

    async def tell(self) -> Mapping[str, Any]:
        """Lines as the page shows them; of the audit log only what is new is read."""
        while self._audit is not None:
            after = str(self._lines[-1]["number"]) if self._lines else "0"
            lines = (await _ask(self._audit, after=after, limit=str(_AT_ONCE)))["lines"]
            self._lines.extend(lines)
            if len(lines) < _AT_ONCE:
                break
        automated = [] if self._log is None else (await _ask(self._log, limit=str(MAX_LINES)))["lines"]
        # The audit log has what the log of automation has; that one knows it by segment and person.
        audited = [one for one in self._lines if self._log is None or not one["event"].startswith(AUDITED_AS)]
        found = [*map(_audited, audited), *map(_automated, automated)]
        return {"decisions": sorted(found, key=lambda line: -line["at"])[:MAX_LINES]}


def _audited(line: Mapping[str, Any]) -> dict[str, Any]:
    document = line["document"]
    by_hand = bool(document.get("by_hand"))
    return {
        "at": line["unix_ms"] / 1000,
        "what": line["event"],
        "model": line["model"],
        "reason": document.get("reason", ""),
        "acted": line["event"] != Move.HOLD,
        "is_own": line["event"] in OWN_MOVES and not by_hand,
        "who": "a person" if by_hand else None,
    }


def _automated(line: Mapping[str, Any]) -> dict[str, Any]:
    document = line["document"]
    where = f" in segment {line['segment']}" if line["segment"] else ""
    what = f"{document['from']} → {document['to']}{where}" if "to" in document else line["event"]
    return {
        "at": line["at"],
        "what": what,
        "model": line["model"],
        "reason": document.get("reason", ""),
        "who": document.get("by") or None,
        "is_own": line["event"] == "moved",
    }


async def _waiting(route: AdminRoute) -> Mapping[str, Any]:
    return {"waiting": (await _ask(route, limit="1"))["waiting"]}


async def _levels(route: AdminRoute) -> Mapping[str, Any]:
    standings = (await _ask(route))["standings"]
    return {"models": [{**one, "reason": one.get("next", {}).get("reason", "")} for one in standings]}


async def _ask(route: AdminRoute, **query: str) -> Mapping[str, Any]:
    """What the route answers to a request without a body."""
    scope = {
        "type": "http",
        "method": route.method,
        "path": route.path,
        "path_params": {},
        "query_string": urlencode(query).encode(),
        "headers": [],
    }
    told = await route.answer(AdminRequest(Request(scope), 0))
    if not isinstance(told, Mapping):
        raise StorageError(f"{route.path} answers {type(told).__name__}; the page expects a JSON object")
    return told

"""Automation on the admin API: levels, the review queue, labels. Each handler is a thin translation onto a part of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from cloud_gateway.admin.app import AdminRequest, AdminRoute, list_in
from cloud_gateway.automation.choices import Choices, no_choices, numbered
from cloud_gateway.automation.label_studio import export_lines, import_lines
from cloud_gateway.automation.labels import LabelledAnswer, Labels
from cloud_gateway.automation.levels import Level, Step
from cloud_gateway.automation.queue import ReviewItem, ReviewQueue
from cloud_gateway.automation.service import MOST_SEGMENT_CHARACTERS, AutomationService
from cloud_gateway.automation.store import AutomationStore
from runtime.errors import EdgewardError, InvalidInputError, UnauthenticatedError
from runtime.store import check_text

Flush = Callable[[], Awaitable[None]]
"""Writes down the answers that wait to be: a label may be about one of them."""
OnLabelled = Callable[[LabelledAnswer], None]
"""Told, on a thread, what a label says of the version that answered."""

MOST_LABELS: Final = 10_000
MOST_IMPORT_BYTES: Final = 32 << 20


class AutomationRoutes:
    """`routes()` is what the admin API takes."""

    def __init__(
        self,
        store: AutomationStore,
        service: AutomationService | None,
        flushes: Sequence[Flush] = (),
        on_labelled: OnLabelled | None = None,
        choices: Choices = no_choices,
        *,
        has_reviewers: bool = False,
    ) -> None:
        """`service`: None where no model has automation, and only labels are taken.

        `has_reviewers`: people have keys of their own, and nobody answers under a name that is only said.
        """
        self._store = store
        self._flushes = flushes
        self._choices = choices
        self._has_reviewers = has_reviewers
        self._on_labelled = on_labelled
        self._queue = ReviewQueue(store)
        self._labels = Labels(store)
        self._service = service

    def routes(self) -> list[AdminRoute]:
        """Levels, items, labels."""
        return [
            AdminRoute("GET", "/admin/automation", self.levels),
            AdminRoute("GET", "/admin/automation/log", self.log),
            AdminRoute("POST", "/admin/automation/{model}/level", self.move),
            AdminRoute("GET", "/admin/reviews", self.items, is_for_reviewers=True),
            AdminRoute("GET", "/admin/reviews/export", self.export),
            AdminRoute("POST", "/admin/reviews/import", self.take_import, max_body_bytes=MOST_IMPORT_BYTES),
            AdminRoute("GET", "/admin/reviews/{item}", self.item, is_for_reviewers=True),
            AdminRoute("GET", "/admin/reviews/{item}/input", self.input, is_for_reviewers=True),
            AdminRoute("POST", "/admin/reviews/{item}/answer", self.answer, is_for_reviewers=True),
            AdminRoute("POST", "/admin/feedback", self.feedback),
        ]

    async def levels(self, _: AdminRequest) -> Mapping[str, Any]:
        """Every model's standing by segment; what was never asked stands at its start level."""
        found = await asyncio.to_thread(self._store.standings)
        now = self._store.clock()
        told = [{"model": model, "segment": segment, **standing.describe(now)} for model, segment, standing in found]
        seen = {model for model, _, _ in found}
        told += [
            {"model": name, "segment": "", "level": str(one.start_level)}
            for name, one in self._store.settings.items()
            if name not in seen
        ]
        return {"standings": told, "lost_records": 0 if self._service is None else self._service.lost_records}

    async def log(self, request: AdminRequest) -> Mapping[str, Any]:
        """Lines of the log, the newest first."""
        return {"lines": await asyncio.to_thread(self._store.history, _limit(request))}

    async def move(self, request: AdminRequest) -> Mapping[str, Any]:
        """Body: `level`, and `segment`, `reason`, `by`."""
        document = await request.json()
        try:
            level = Level(str(document.get("level")))
        except ValueError:
            raise InvalidInputError(
                f"level is {document.get('level')!r:.40}; expected one of {', '.join(Level)}"
            ) from None
        segment, reason, by = (_text(document, name) for name in ("segment", "reason", "by"))
        check_text(segment, "the segment", MOST_SEGMENT_CHARACTERS)
        standing = await asyncio.to_thread(self._store.move, request.path["model"], segment, level, reason, by)
        self._levels_may_have_moved()
        return {"model": request.path["model"], "segment": segment, **standing.describe(self._store.clock())}

    async def items(self, request: AdminRequest) -> Mapping[str, Any]:
        """Query: `model`, `reviewer` (leaves out what she has answered), `limit`, `all=1` (answered ones too).

        With a reviewer's key she is the reviewer. `waiting` counts open items, whatever the limit.
        """
        query = request.query
        model, reviewer = query.get("model", ""), request.reviewer or query.get("reviewer", "")
        is_all = query.get("all", "") not in ("", "0", "false")

        def look() -> tuple[list[ReviewItem], int]:
            found = self._queue.items(model, reviewer, _limit(request), only_open=not is_all)
            return found, self._queue.waiting(model, reviewer)

        found, waiting = await asyncio.to_thread(look)
        return {
            "items": [self._described(item) for item in found],
            "waiting": waiting,
            "reviewer": request.reviewer,
            "has_reviewers": self._has_reviewers,
        }

    async def item(self, request: AdminRequest) -> Mapping[str, Any]:
        """One item, and its answer once it has one."""
        return self._described(await asyncio.to_thread(self._queue.item, request.path["item"]))

    async def input(self, request: AdminRequest) -> Mapping[str, Any]:
        """What the input of an open item looks like, tensor by tensor: see `exhibit`."""
        return {"tensors": await asyncio.to_thread(self._queue.exhibit, request.path["item"])}

    async def answer(self, request: AdminRequest) -> Mapping[str, Any]:
        """Body: `answer` (of a class its name or number), and `reviewer` where people have no keys of their own."""
        document = await request.json()
        if "answer" not in document:
            raise InvalidInputError(
                "the body has no 'answer'; expected a class, a number, or a list with one for each row"
            )
        reviewer = self._who_answers(request, _text(document, "reviewer"))
        item, step = await asyncio.to_thread(self._take, request.path["item"], document["answer"], reviewer)
        if step is not None:
            self._levels_may_have_moved()
        return {"item": self._described(item), "step": None if step is None else step.to_dict()}

    async def feedback(self, request: AdminRequest) -> Mapping[str, Any]:
        """Body: `labels`, each with `model`, `request_id`, `label` and perhaps `source`; what became of each, in order."""
        document = await request.json(are_texts_checked=False)  # each label for itself
        labels = list_in(document, "labels", MOST_LABELS)
        for at, one in enumerate(labels):
            is_named = isinstance(one, dict) and all(isinstance(one.get(name), str) for name in ("model", "request_id"))
            if not is_named or "label" not in one or not isinstance(one.get("source", ""), str):
                raise InvalidInputError(
                    f"label {at} is {one!r:.80}; expected model, request_id, label, and perhaps source"
                )
        for flush in self._flushes:
            await flush()
        outcomes = []
        for one in labels:
            outcome = await asyncio.to_thread(
                self._labels.take, one["model"], one["request_id"], one["label"], one.get("source", "")
            )
            if outcome.answer is not None and self._on_labelled is not None:
                await asyncio.to_thread(self._on_labelled, outcome.answer)
            outcomes.append(outcome.to_dict())
        self._levels_may_have_moved()
        return {"labels": outcomes}

    async def export(self, request: AdminRequest) -> Response:
        """Open items as JSON lines for Label Studio."""
        found = await asyncio.to_thread(self._queue.items, request.query.get("model", ""), "", _limit(request))
        text = await asyncio.to_thread(export_lines, found, self._labels_of)
        return Response(text, media_type="application/x-ndjson")

    async def take_import(self, request: AdminRequest) -> Mapping[str, Any]:
        """Body: what Label Studio exported; what became of each annotation."""
        body = await request.body()
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"the body is not UTF-8 at byte {error.start}") from None
        taken, refused = 0, []
        for one in import_lines(text):
            try:
                await asyncio.to_thread(self._take, one.item, one.answer, one.reviewer)
                taken += 1
            except EdgewardError as error:
                refused.append({"item": one.item, "reason": str(error)})
        self._levels_may_have_moved()
        return {"taken": taken, "refused": refused}

    def _take(self, item_id: str, answer: object, reviewer: str) -> tuple[ReviewItem, Step | None]:
        """Blocking; a class by its name becomes its number."""
        return self._queue.answer(item_id, numbered(answer, self._labels_of(self._queue.item(item_id))), reviewer)

    def _labels_of(self, item: ReviewItem) -> Sequence[str]:
        settings = self._store.settings.get(item.model)
        return self._choices(item.model, item.version, "" if settings is None else settings.output)

    def _described(self, item: ReviewItem) -> dict[str, Any]:
        return {**item.to_dict(), "labels": list(self._labels_of(item))}

    def _who_answers(self, request: AdminRequest, said: str) -> str:
        """The name that a reviewer's key stands for; one that is only said counts where nobody has such a key."""
        if request.reviewer is None:
            if self._has_reviewers:
                raise UnauthenticatedError(
                    "the reviewers of this gateway have keys of their own; answer with one of theirs"
                )
            return said
        if said not in ("", request.reviewer):
            raise InvalidInputError(f"the key is that of reviewer {request.reviewer!r}, the answer says {said!r:.80}")
        return request.reviewer

    def _levels_may_have_moved(self) -> None:
        if self._service is not None:
            self._service.forget_levels()


def _limit(request: AdminRequest) -> int:
    given = request.query.get("limit", "100")
    if not given.isdecimal() or len(given) > 6:
        raise InvalidInputError(f"limit is {given!r:.40}; expected a number of items")
    return int(given)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise InvalidInputError(f"{name!r} is {value!r:.40}; expected a text")
    return value

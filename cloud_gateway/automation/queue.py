"""The queue of what people are to decide: items, their answers, and what an answer says of the model."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from cloud_gateway.automation.answers import Answer, check_answer, loss
from cloud_gateway.automation.levels import Level, Step
from cloud_gateway.automation.standing import BlindAnswer, Standing
from cloud_gateway.automation.store import MOST_LISTED, MOST_NAME_CHARACTERS, AutomationStore, DecidedBy, Served
from cloud_gateway.automation.tables import EXHIBITS, ITEMS, OPINIONS, SERVED
from runtime.errors import ConflictError, InvalidInputError, ModelNotFoundError, OverloadedError
from runtime.store import check_text, kept_text, reading, writing

MOST_SUMMARY_BYTES: Final = 4096
MOST_REFERENCE_CHARACTERS: Final = 1024
RETRY_AFTER_S: Final = 60.0


class Why(StrEnum):
    """Why a person has an item."""

    LEVEL = "level"
    """At this level people decide everything."""
    LOW_CONFIDENCE = "low_confidence"
    """The model is not sure enough to answer by itself."""
    AUDIT = "audit"
    """The model has answered; by chance somebody checks."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """What goes before a person."""

    level: Level
    why: Why
    is_blind: bool
    wants: int
    """How many people are to answer it: 2 where their own disagreement is measured."""
    summary: str
    input_reference: str
    exhibit: Sequence[Mapping[str, Any]] = ()
    """The input as `exhibit` shows it."""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """An item as a person may see it: blind, it has no suggestion."""

    id: str
    model: str
    request_id: str
    segment: str
    at: float
    level: str
    why: str
    is_blind: bool
    wants: int
    opinions: int
    summary: str
    input_reference: str
    version: str
    rows: int
    suggestion: Answer
    confidence: float | None
    answer: Answer
    """The first person's; None while nobody has answered."""

    @property
    def is_open(self) -> bool:
        """Whether somebody is still to answer."""
        return self.opinions < self.wants

    def to_dict(self) -> dict[str, Any]:
        """In types that JSON has."""
        return {**asdict(self), "is_open": self.is_open}


class ReviewQueue:
    """Items of all models in a store's database. Blocking, as the store is."""

    def __init__(self, store: AutomationStore) -> None:
        self._store = store

    def put(self, served: Served, item: NewItem) -> str:
        """Writes a request down and puts it before a person; the item's id. The same request again has the same item.

        `OverloadedError` when too many are open.
        """
        with writing(self._store.engine) as connection:
            known = select(ITEMS.c.id).where(ITEMS.c.model == served.model, ITEMS.c.request_id == served.request_id)
            found = connection.execute(known).scalar()
            if found is not None:
                return str(found)
            is_open = select(func.count()).where(ITEMS.c.model == served.model, ITEMS.c.opinions < ITEMS.c.wants)
            waiting = int(connection.execute(is_open).scalar() or 0)
            most = self._store.settings[served.model].most_open_items
            if waiting >= most:
                raise OverloadedError(
                    f"{waiting} requests to model {served.model!r} wait for a person, {most} at most; "
                    "answer some (edgeward review list) or raise most_open_items",
                    RETRY_AFTER_S,
                )
            self._store.record_in(connection, [served])
            item_id = secrets.token_hex(8)
            values = {**_columns(item), "level": str(item.level), "why": str(item.why), "opinions": 0}
            values["summary"] = _cut(kept_text(item.summary), MOST_SUMMARY_BYTES)
            values["input_reference"] = item.input_reference[:MOST_REFERENCE_CHARACTERS]
            row = {"id": item_id, "model": served.model, "request_id": served.request_id, "segment": served.segment}
            connection.execute(insert(ITEMS).values(**row, at=self._store.clock(), **values))
            if item.exhibit:
                connection.execute(insert(EXHIBITS).values(item=item_id, document=list(item.exhibit)))
            return item_id

    def items(
        self, model: str = "", reviewer: str = "", limit: int = 100, *, only_open: bool = True
    ) -> list[ReviewItem]:
        """Items, the oldest first; for a `reviewer` without those that she has answered."""
        chosen = _chosen(select(ITEMS.c.id), model, reviewer, only_open=only_open)
        query = chosen.order_by(ITEMS.c.at, ITEMS.c.id).limit(max(1, min(limit, MOST_LISTED)))
        with reading(self._store.engine) as connection:
            return [self._item(connection, row.id) for row in connection.execute(query).all()]

    def waiting(self, model: str = "", reviewer: str = "") -> int:
        """How many items somebody is still to answer; for a `reviewer` those that she has not."""
        query = _chosen(select(func.count()).select_from(ITEMS), model, reviewer, only_open=True)
        with reading(self._store.engine) as connection:
            return int(connection.execute(query).scalar() or 0)

    def exhibit(self, item_id: str) -> list[dict[str, Any]]:
        """What the input of an open item looks like; nothing where that is not kept, or nobody is asked any more."""
        with reading(self._store.engine) as connection:
            self._item(connection, item_id)
            found = connection.execute(select(EXHIBITS.c.document).where(EXHIBITS.c.item == item_id)).scalar()
            return [] if found is None else list(found)

    def item(self, item_id: str) -> ReviewItem:
        """One item; `ModelNotFoundError` when there is none of that id."""
        with reading(self._store.engine) as connection:
            return self._item(connection, item_id)

    def answer(self, item_id: str, answer: object, reviewer: str) -> tuple[ReviewItem, Step | None]:
        """Takes a person's answer in; the item as it is then, and the step that the answer led to.

        The same again changes nothing. `ConflictError` for another answer by the same person, or when nobody is asked any more.
        """
        if not check_text(reviewer, "the reviewer's name", MOST_NAME_CHARACTERS):
            raise InvalidInputError(f"the reviewer's name is empty; expected 1 to {MOST_NAME_CHARACTERS} characters")
        now = self._store.clock()
        with writing(self._store.engine) as connection:
            item = self._item(connection, item_id)
            checked = check_answer(answer, item.rows)
            own = select(OPINIONS.c.answer).where(OPINIONS.c.item == item_id, OPINIONS.c.reviewer == reviewer)
            earlier = connection.execute(own).first()
            if earlier is not None:
                if earlier.answer != checked:
                    raise ConflictError(
                        f"{reviewer!r} has answered item {item_id} with {earlier.answer!r:.80} already; an answer stands once given"
                    )
                return item, None
            if not item.is_open:
                raise ConflictError(f"item {item_id} has its {item.wants} answer(s) already; nothing is left to decide")
            number = item.opinions + 1
            values = {"item": item_id, "reviewer": reviewer, "number": number, "answer": checked, "at": now}
            connection.execute(insert(OPINIONS).values(**values))
            connection.execute(update(ITEMS).where(ITEMS.c.id == item_id).values(opinions=number))
            if number == item.wants:
                connection.execute(delete(EXHIBITS).where(EXHIBITS.c.item == item_id))
            standing = self._store.standing_in(connection, item.model, item.segment)
            self._learn(connection, standing, item, checked, number, now)
            step = self._store.settle(connection, item.model, item.segment, standing, now)
            return self._item(connection, item_id), step

    def _item(self, connection: Connection, item_id: str) -> ReviewItem:
        both = (ITEMS.c.model == SERVED.c.model) & (ITEMS.c.request_id == SERVED.c.request_id)
        query = select(ITEMS, SERVED.c.version, SERVED.c.rows, SERVED.c.suggestion, SERVED.c.confidence).join(
            SERVED, both
        )
        row = connection.execute(query.where(ITEMS.c.id == item_id)).first()
        if row is None:
            raise ModelNotFoundError(f"there is no review item {item_id!r:.80}; list them with: edgeward review list")
        values = dict(row._mapping)
        first = select(OPINIONS.c.answer).where(OPINIONS.c.item == item_id, OPINIONS.c.number == 1)
        values["answer"] = connection.execute(first).scalar()
        # Who is still to answer must not see the first answer either, where it counts as a second opinion.
        if values["opinions"] < values["wants"]:
            values["answer"] = None
            if values["is_blind"]:
                values["suggestion"] = values["confidence"] = None
        return ReviewItem(**values)

    def _learn(
        self, connection: Connection, standing: Standing, item: ReviewItem, answer: Answer, number: int, now: float
    ) -> None:
        """What an answer says of the model, if the item was not chosen by what the model said."""
        place = (SERVED.c.model == item.model) & (SERVED.c.request_id == item.request_id)
        served = connection.execute(select(SERVED).where(place)).one()
        if served.suggestion is None:
            return
        tolerance = standing.settings.tolerance
        if not item.is_blind:
            if number == 1:
                standing.observe_shown((loss(served.suggestion, answer, tolerance) or 0.0) > 0)
            return
        if item.why == Why.LOW_CONFIDENCE or number < item.wants:
            return
        first_query = select(OPINIONS.c.answer).where(OPINIONS.c.item == item.id, OPINIONS.c.number == 1)
        first: Answer = connection.execute(first_query).scalar()
        model_loss = loss(served.suggestion, first, tolerance)
        human_loss = loss(answer, first, tolerance) if number > 1 else None
        if model_loss is not None:
            is_audit = served.decided_by == DecidedBy.MODEL
            standing.observe(BlindAnswer(model_loss, human_loss, served.confidence, is_audit), now)


def _columns(item: NewItem) -> dict[str, Any]:
    """Of the table of items."""
    return {name: value for name, value in asdict(item).items() if name != "exhibit"}


def _chosen(query: Select[Any], model: str, reviewer: str, *, only_open: bool) -> Select[Any]:
    """`query` over items of one model (empty: all), without those that a reviewer has answered (empty: with them)."""
    if model:
        query = query.where(ITEMS.c.model == model)
    if only_open:
        query = query.where(ITEMS.c.opinions < ITEMS.c.wants)
    if reviewer:
        query = query.where(ITEMS.c.id.not_in(select(OPINIONS.c.item).where(OPINIONS.c.reviewer == reviewer)))
    return query


def _cut(text: str, most_bytes: int) -> str:
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= most_bytes else raw[: most_bytes - 3].decode("utf-8", "ignore") + "…"

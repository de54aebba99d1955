"""Labels: the truth for requests that were served, late, in parts or twice. A label counts once, and the first one stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from cloud_gateway.automation.answers import Answer, check_answer, compared, completed, loss
from cloud_gateway.automation.queue import Why
from cloud_gateway.automation.standing import Standing
from cloud_gateway.automation.store import KEEP_S, MOST_NAME_CHARACTERS, AutomationStore, DecidedBy
from cloud_gateway.automation.tables import ITEMS, OPINIONS, ROW_DETAILS, SERVED, WHOLE_LABELS
from runtime.errors import InvalidInputError
from runtime.monitoring.performance import Labelled
from runtime.store import check_text, kept_text, reading, writing


class Taken(StrEnum):
    """What became of a label."""

    ACCEPTED = "accepted"
    COMPLETED = "completed"
    """It filled in rows that an earlier one had left open."""
    KNOWN = "known"
    """The same came before; nothing changed."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """The rows of a request that are labelled, beside what the model said to them: what its performance is known by."""

    model: str
    version: str
    rows: tuple[Labelled, ...]
    """Named by request and row, so that a row that comes again is known; times in Unix seconds."""
    request_id: str = ""
    places: tuple[int, ...] = ()
    """The place of each of `rows` in the request."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the caller said of the request: segment, source of the label."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """As `row_details` keeps them."""


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What became of one label, and why where it was refused."""

    model: str
    request_id: str
    taken: Taken
    reason: str = ""
    answer: LabelledAnswer | None = None
    """What it says of the version that answered; also of a label that contradicts the one before. None: no model answered."""

    def to_dict(self) -> dict[str, Any]:
        """In types that JSON has."""
        return {
            "model": self.model,
            "request_id": self.request_id,
            "taken": str(self.taken),
            "reason": self.reason,
        }


class Labels:
    """Takes labels in for the requests in a store's database. Blocking, as the store is."""

    def __init__(self, store: AutomationStore) -> None:
        self._store = store

    def take(self, model: str, request_id: str, label: object, source: str = "") -> LabelOutcome:
        """Takes in the truth for a request that was served: late, in parts, or twice. Never raises for a label that is refused."""
        try:
            for name, text in (("model", model), ("request_id", request_id), ("source", source)):
                check_text(text, f"{name!r} of a label")
            with writing(self._store.engine) as connection:
                return self._label(connection, model, request_id, check_answer(label), source[:MOST_NAME_CHARACTERS])
        except InvalidInputError as error:
            return LabelOutcome(kept_text(model), kept_text(request_id), Taken.REFUSED, str(error))

    def _label(self, connection: Connection, model: str, request_id: str, label: Answer, source: str) -> LabelOutcome:
        place = (SERVED.c.model == model) & (SERVED.c.request_id == request_id)
        served = connection.execute(select(SERVED).where(place)).first()
        if served is None:
            reason = (
                f"no request {request_id!r:.80} to model {model!r:.80} is known; it was never served here, "
                f"or over {KEEP_S / 86_400:.0f} days ago"
            )
            return LabelOutcome(model, request_id, Taken.REFUSED, reason)
        check_answer(label, served.rows)
        whole = label if served.label is None else completed(served.label, label)
        if whole is None and served.label is not None:
            reason = f"the request has the label {served.label!r:.80} already, this one says {label!r:.80}; the first one stands"
            details = self._details(connection, model, request_id)
            answer = self._answer(served, label, source, details)
            return LabelOutcome(model, request_id, Taken.REFUSED, reason, answer=answer)
        if served.label is not None and whole == served.label:
            return LabelOutcome(model, request_id, Taken.KNOWN)
        now = self._store.clock()
        values = {"label": whole, "label_source": source, "labelled_at": now}
        connection.execute(update(SERVED).where(place).values(**values))
        is_whole = not isinstance(whole, list) or None not in whole
        if is_whole:
            # Of the arms of a release a request's loss counts once, when all of its rows are labelled.
            connection.execute(insert(WHOLE_LABELS).values(model=model, request_id=request_id, at=now))
        if is_whole and model in self._store.settings:
            standing = self._store.standing_in(connection, model, served.segment)
            self._learn_truth(connection, standing, served, whole)
            self._store.settle(connection, model, served.segment, standing, now)
        taken = Taken.ACCEPTED if served.label is None else Taken.COMPLETED
        answer = self._answer(served, whole, source, self._details(connection, model, request_id))
        return LabelOutcome(model, request_id, taken, answer=answer)

    def known(self, most: int) -> list[LabelledAnswer]:
        """The newest `most` requests that are labelled, in the order in which their labels came."""
        same = (ROW_DETAILS.c.model == SERVED.c.model) & (ROW_DETAILS.c.request_id == SERVED.c.request_id)
        query = select(SERVED, ROW_DETAILS.c.details).join(ROW_DETAILS, same, isouter=True)
        query = query.where(SERVED.c.label.is_not(None)).order_by(SERVED.c.labelled_at.desc()).limit(most)
        with reading(self._store.engine) as connection:
            rows = connection.execute(query).all()
        found = (self._answer(one, one.label, one.label_source or "", one.details) for one in reversed(rows))
        return [answer for answer in found if answer is not None]

    def _details(self, connection: Connection, model: str, request_id: str) -> Mapping[str, Any] | None:
        place = (ROW_DETAILS.c.model == model) & (ROW_DETAILS.c.request_id == request_id)
        found: Mapping[str, Any] | None = connection.execute(select(ROW_DETAILS.c.details).where(place)).scalar()
        return found

    def _answer(
        self, served: Any, truth: Answer, source: str, details: Mapping[str, Any] | None
    ) -> LabelledAnswer | None:
        if served.suggestion is None:
            return None
        settings = self._store.settings.get(served.model)
        rows = compared(served.suggestion, truth, 0.0 if settings is None else settings.tolerance)
        named = (
            Labelled(f"{served.request_id}\0{one.row}", one.said, one.truth, one.is_right, served.at) for one in rows
        )
        tags = {"segment": served.segment, "label source": source}
        return LabelledAnswer(
            served.model,
            served.version,
            tuple(named),
            served.request_id,
            tuple(one.row for one in rows),
            {name: word for name, word in tags.items() if word},
            details or {},
        )

    def _learn_truth(self, connection: Connection, standing: Standing, served: Any, truth: Answer) -> None:
        tolerance = standing.settings.tolerance
        model_loss = None if served.suggestion is None else loss(served.suggestion, truth, tolerance)
        asked = (ITEMS.c.model == served.model) & (ITEMS.c.request_id == served.request_id)
        query = select(OPINIONS.c.answer, ITEMS.c.why).join(ITEMS, ITEMS.c.id == OPINIONS.c.item)
        person = connection.execute(query.where(asked, OPINIONS.c.number == 1)).first()
        if person is not None and person.why == Why.LOW_CONFIDENCE:
            return
        human_loss = None if person is None else loss(person.answer, truth, tolerance)
        if served.decided_by != DecidedBy.MODEL and human_loss is None:
            return
        standing.observe_truth(human_loss, model_loss)

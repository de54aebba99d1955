"""What automation must not forget: levels with their evidence, people's items and answers, labels. Each change is one transaction.

Blocking: an event loop calls this on a thread. Where an answer moves a level, the answer, the evidence, the level and the line in
the log are written together or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, insert, select, update

from cloud_gateway.automation.answers import Suggestion
from cloud_gateway.automation.levels import Level, Step
from cloud_gateway.automation.row_details import Inputs, RowDetails
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.standing import Standing
from cloud_gateway.automation.tables import (
    ARM_ANSWERS,
    ITEMS,
    LOG,
    ROW_DETAILS,
    SERVED,
    STANDINGS,
    TABLES,
    WHOLE_LABELS,
)
from runtime.errors import ConflictError, ModelNotFoundError, StorageError
from runtime.store import insert_new, reading, writing

log = logging.getLogger(__name__)

MOST_SUMMARY_BYTES: Final = 4096
MOST_REFERENCE_CHARACTERS: Final = 1024
MOST_NAME_CHARACTERS: Final = 128
MOST_LISTED: Final = 1000
# Labels may come late; a request that was answered longer ago than this is forgotten unless a person still has it.
KEEP_S: Final = 90 * 86_400.0
RETRY_AFTER_S: Final = 60.0

Append = Callable[[Connection, float, str, str, str, Mapping[str, Any]], None]
"""Writes one line of the audit log in the caller's transaction: time, model, segment, event, document."""


class DecidedBy(StrEnum):
    """Reply parameter `decided_by`."""

    MODEL = "model"
    HUMAN_PENDING = "human_pending"


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it was served, and what the model said to it."""

    model: str
    request_id: str
    version: str
    segment: str
    rows: int
    suggestion: Suggestion | None
    """None: the model was not asked."""
    decided_by: DecidedBy
    inputs: Inputs | None = field(default=None, compare=False, repr=False)
    """Only until it is written down; None where they are not to be looked at."""


def append_log(
    connection: Connection, at: float, model: str, segment: str, event: str, document: Mapping[str, Any]
) -> None:
    """One line of automation's own append-only table: an `Append`."""
    connection.execute(insert(LOG).values(at=at, model=model, segment=segment, event=event, document=dict(document)))


class AutomationStore:
    """The tables in one database; several gateways may share it. `clock`: wall-clock seconds."""

    def __init__(
        self,
        engine: Engine,
        settings: Iterable[AutomationSettings],
        clock: Callable[[], float],
        append: Append = append_log,
        details: RowDetails | None = None,
    ) -> None:
        self.settings = {one.model: one for one in settings}
        self.engine = engine
        self.clock = clock
        self._append = append
        self._details = RowDetails() if details is None else details
        with writing(engine) as connection:
            TABLES.create_all(connection)

    def standing(self, model: str, segment: str) -> Standing:
        """The standing of a model in a segment; a new one where it was never seen.

        Of one that begins by answering itself it is written when: from then on its audits may lapse.
        """
        with reading(self.engine) as connection:
            standing = self.standing_in(connection, model, segment)
            is_new = self._state(connection, model, segment) is None
        if is_new and standing.level.is_automatic:
            try:
                with writing(self.engine) as connection:
                    row = {"model": model, "segment": segment, "state": standing.to_state()}
                    connection.execute(insert_new(connection, STANDINGS), [row])
            except StorageError as error:
                log.error(
                    "model %s, segment %r: when its level began could not be written down: %s", model, segment, error
                )
        return standing

    def standings(self) -> list[tuple[str, str, Standing]]:
        """(model, segment, standing) of whatever was ever moved or answered."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(STANDINGS).order_by(STANDINGS.c.model, STANDINGS.c.segment)).all()
        known = [row for row in rows if row.model in self.settings]
        return [(row.model, row.segment, Standing.from_state(self.settings[row.model], row.state)) for row in known]

    def record(self, served: Sequence[Served]) -> None:
        """Writes down what was served, so that labels find it; a request id that is known already keeps what it was."""
        if served:
            details = self._details.of([(one.model, one.version, one.inputs, one.suggestion) for one in served])
            with writing(self.engine) as connection:
                self._record_in(connection, served, details)

    def move(self, model: str, segment: str, level: Level, reason: str, by: str) -> Standing:
        """A person sets the level."""
        now = self.clock()
        with writing(self.engine) as connection:
            standing = self.standing_in(connection, model, segment)
            if level.rank > standing.settings.highest_level.rank:
                raise ConflictError(
                    f"{level} is above highest_level {standing.settings.highest_level} of model {model!r}"
                )
            before = standing.level
            standing.move(level, now)
            self._write(connection, model, segment, standing)
            document = {"from": str(before), "to": str(level), "reason": reason, "by": by}
            self._append(connection, now, model, segment, "moved_by_hand", document)
            return standing

    def note_drift(self, model: str, segment: str, finding: str) -> Step | None:
        """What a drift monitor says of a model; empty: nothing any more. The step that follows, if one does."""
        with writing(self.engine) as connection:
            standing = self.standing_in(connection, model, segment)
            standing.drift = finding
            return self.settle(connection, model, segment, standing, self.clock())

    def review_levels(self) -> list[tuple[str, str, Step]]:
        """Steps that time alone leads to, of lapsed audits and stale calibrations; called now and then."""
        steps = []
        for model, segment, _ in self.standings():
            with writing(self.engine) as connection:
                standing = self.standing_in(connection, model, segment)
                step = self.settle(connection, model, segment, standing, self.clock())
            if step is not None:
                steps.append((model, segment, step))
        return steps

    def forget(self) -> int:
        """Drops requests of over `KEEP_S` ago that no item refers to; how many."""
        with writing(self.engine) as connection:
            asked = select(ITEMS.c.request_id).where(
                ITEMS.c.model == SERVED.c.model, ITEMS.c.request_id == SERVED.c.request_id
            )
            before = self.clock() - KEEP_S
            for table in (ARM_ANSWERS, WHOLE_LABELS, ROW_DETAILS):
                connection.execute(delete(table).where(table.c.at < before))
            return int(connection.execute(delete(SERVED).where(SERVED.c.at < before, ~asked.exists())).rowcount)

    def history(self, limit: int = 100) -> list[dict[str, Any]]:
        """Lines of the log, the newest first."""
        query = select(LOG).order_by(LOG.c.number.desc()).limit(max(1, min(limit, MOST_LISTED)))
        with reading(self.engine) as connection:
            return [dict(row._mapping) for row in connection.execute(query).all()]

    def standing_in(self, connection: Connection, model: str, segment: str) -> Standing:
        """Within the caller's transaction: the standing of a model in a segment."""
        settings = self.settings.get(model)
        if settings is None:
            known = ", ".join(sorted(self.settings)) or "none"
            raise ModelNotFoundError(f"model {model!r} has no [[automation]] settings here; those that have: {known}")
        state = self._state(connection, model, segment)
        if state is None:
            standing = Standing(settings, settings.start_level, self.clock())
            if standing.level.is_automatic:
                standing.audited_at = standing.calibrated_at = standing.since
            return standing
        return Standing.from_state(settings, state)

    def _state(self, connection: Connection, model: str, segment: str) -> Any:
        query = select(STANDINGS.c.state).where(STANDINGS.c.model == model, STANDINGS.c.segment == segment)
        return connection.execute(query).scalar()

    def _write(self, connection: Connection, model: str, segment: str, standing: Standing) -> None:
        place = (STANDINGS.c.model == model) & (STANDINGS.c.segment == segment)
        state = standing.to_state()
        if not connection.execute(update(STANDINGS).where(place).values(state=state)).rowcount:
            connection.execute(insert(STANDINGS).values(model=model, segment=segment, state=state))

    def settle(self, connection: Connection, model: str, segment: str, standing: Standing, now: float) -> Step | None:
        """Moves to where the evidence says, writes the standing, and a line in the log where it moved."""
        step = standing.decide(now)
        has_moved = step.level is not standing.level
        if has_moved:
            document = {"from": str(standing.level), "to": str(step.level), "reason": step.reason}
            self._append(connection, now, model, segment, "moved", {**document, "evidence": standing.describe(now)})
            log.warning("model %s, segment %r: %s → %s: %s", model, segment, standing.level, step.level, step.reason)
            standing.move(step.level, now)
        self._write(connection, model, segment, standing)
        return step if has_moved else None

    def record_in(self, connection: Connection, served: Sequence[Served]) -> None:
        """Within the caller's transaction: writes requests down, those that are not known."""
        details = self._details.of([(one.model, one.version, one.inputs, one.suggestion) for one in served])
        self._record_in(connection, served, details)

    def _record_in(
        self, connection: Connection, served: Sequence[Served], details: Sequence[Mapping[str, Any] | None]
    ) -> None:
        connection.execute(insert_new(connection, SERVED), [self._row(one) for one in served])
        now = self.clock()
        rows = [
            {"model": one.model, "request_id": one.request_id, "at": now, "details": dict(told)}
            for one, told in zip(served, details, strict=True)
            if told is not None
        ]
        if rows:
            connection.execute(insert_new(connection, ROW_DETAILS), rows)

    def _row(self, one: Served) -> dict[str, Any]:
        """The row of `SERVED` for one request."""
        return {
            "model": one.model,
            "request_id": one.request_id,
            "version": one.version,
            "segment": one.segment,
            "at": self.clock(),
            "rows": one.rows,
            "suggestion": None if one.suggestion is None else one.suggestion.answer,
            "confidence": None if one.suggestion is None else one.suggestion.confidence,
            "decided_by": str(one.decided_by),
        }

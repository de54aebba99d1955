"""What the arms of a release said, kept until labels come.

All of it for a guard on losses; of a shadow without one, what `Traffic.tell` bounds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from cloud_gateway.automation.answers import check_answer, suggestion_of
from cloud_gateway.automation.store import AutomationStore, DecidedBy, Served
from cloud_gateway.automation.tables import ARM_ANSWERS
from cloud_gateway.release.answering import Answered, Traffic
from runtime.errors import EdgewardError, StorageError
from runtime.store import check_text, insert_new, writing

log = logging.getLogger(__name__)

FLUSH_EVERY_S: Final = 0.25
MOST_WAITING: Final = 16_384
MOST_ID_CHARACTERS: Final = 256
"""Of a request's id in the tables."""


class ArmAnswers:
    """Takes a release's answers on the event loop, writes them down on a thread; `run` beside it, `flush` at the end.

    A request without an id has no name that a label could call it by, and is left out.
    """

    def __init__(self, store: AutomationStore, traffic: Traffic) -> None:
        self.lost = 0
        """Answers that could not be kept: too many waited, the output is none that a label could be compared with, or a database
        would refuse the request's id or segment."""
        self._store = store
        self._waiting: list[tuple[Answered, Served]] = []
        self._is_writing = asyncio.Lock()
        traffic.on_answer = self.take

    def take(self, answered: Answered) -> None:
        """Keeps one answer until it is written; quick, and never raises."""
        if not answered.request_id:
            return
        settings = self._store.settings.get(answered.model)
        try:
            check_text(answered.request_id, "the request id", MOST_ID_CHARACTERS)
            check_text(answered.segment, "the segment")
            suggestion = suggestion_of(answered.outputs, "" if settings is None else settings.output)
            check_answer(suggestion.answer)
        except EdgewardError:
            self.lost += 1
            return
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            return
        rows = len(suggestion.answer) if isinstance(suggestion.answer, list) else 1
        served = Served(
            answered.model,
            answered.request_id,
            answered.version,
            answered.segment,
            rows,
            suggestion,
            DecidedBy.MODEL,
        )
        self._waiting.append((answered, served))

    async def run(self) -> None:
        """Writes down what waits, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes down what waits now; what is being written is there too when this returns."""
        async with self._is_writing:
            batch, self._waiting = self._waiting, []
            if not batch:
                return
            try:
                await asyncio.to_thread(self._write, batch)
            except StorageError as error:
                kept = (batch + self._waiting)[:MOST_WAITING]
                self.lost += len(batch) + len(self._waiting) - len(kept)
                self._waiting = kept
                log.error("answers of releases could not be written down yet: %s", error)

    def _write(self, batch: list[tuple[Answered, Served]]) -> None:
        rows: list[dict[str, Any]] = [
            {
                "model": answered.model,
                "request_id": answered.request_id,
                "release": answered.release,
                "arm": str(answered.arm),
                "segment": answered.segment,
                "answer": None if served.suggestion is None else served.suggestion.answer,
                "at": self._store.clock(),
            }
            for answered, served in batch
        ]
        # Where automation stands before the release, it writes the request down itself, with who decided.
        answers = [
            served
            for answered, served in batch
            if answered.model not in self._store.settings and not answered.is_shadow
        ]
        with writing(self._store.engine) as connection:
            connection.execute(insert_new(connection, ARM_ANSWERS), rows)
            if answers:
                self._store.record_in(connection, answers)

"""Automation before the models: answers by itself where the level lets it, and puts the rest before a person.

Reply parameters: `decided_by` (model | human_pending), `automation` (the level), `request_id` (what labels refer to, also
where the caller gave none), and where a person has it `review_id`. A reply that waits for a person has no outputs. Request
parameters: `segment`, `input_reference` (where a person finds the input). Models without settings pass through untouched.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from cloud_gateway.automation.answers import Suggestion, suggestion_of, summarize
from cloud_gateway.automation.exhibit import exhibit
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.queue import MOST_REFERENCE_CHARACTERS, NewItem, ReviewQueue, Why
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.standing import Standing
from cloud_gateway.automation.store import AutomationStore, DecidedBy, Served
from runtime.errors import EdgewardError, InvalidInputError, StorageError
from runtime.serving.asking import Answer, Withdraw, ask_in_task, ask_of
from runtime.serving.outputs import check_requested, select_outputs
from runtime.serving.service import InferenceService
from runtime.store import check_text
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest, InferenceResponse

log = logging.getLogger(__name__)

# Another gateway on the same database, or a person, may have moved a level.
LEVEL_AGE_S: Final = 1.0
# What the model answered by itself is written down together, at most so late: labels come later than that.
FLUSH_EVERY_S: Final = 0.25
FLUSH_ROWS: Final = 256
MOST_WAITING_ROWS: Final = 16_384
MOST_INPUT_BYTES: Final = 16 << 20
"""Of the inputs that wait to be looked at before a request is written down; of what comes beyond it only the answer is kept."""
REVIEW_EVERY_S: Final = 60.0
FORGET_EVERY_S: Final = 3600.0
MOST_SEGMENT_CHARACTERS: Final = 128
MOST_ID_CHARACTERS: Final = 256
_MOST_CACHED: Final = 4096


class Chance(Protocol):
    """Draws between 0 and 1; `random.SystemRandom` is one, so that no caller can foresee an audit."""

    def random(self) -> float:
        """The next draw."""


ClassNames = Callable[[str, str], Sequence[str] | None]
"""Given model and version, one name a class; None where it names none. `LocalService.class_names` is one."""


class AutomationService:
    """`infer` goes before `inner`'s. Used on one event loop; call `run` beside it and `close` once nothing is served any more."""

    def __init__(
        self, inner: InferenceService, store: AutomationStore, class_names: ClassNames, chance: Chance | None = None
    ) -> None:
        self.lost_records = 0
        """Requests that could not be written down, so that no label will find them."""
        self._inner = inner
        self._ask_decided = ask_in_task(self.infer)
        self._store = store
        self._class_names = class_names
        self._queue = ReviewQueue(store)
        self._chance: Chance = random.SystemRandom() if chance is None else chance
        self._standings: dict[tuple[str, str], tuple[float, Standing]] = {}
        self._waiting: list[Served] = []
        self._input_bytes = 0
        self._is_writing = asyncio.Lock()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The answer of the model, or that a person has the request."""
        settings = self._store.settings.get(request.model)
        if settings is None:
            return await self._inner.infer(request)
        segment = _text(request, "segment", MOST_SEGMENT_CHARACTERS)
        reference = _text(request, "input_reference", MOST_REFERENCE_CHARACTERS)
        request_id = check_text(request.id, "the request id", MOST_ID_CHARACTERS) or secrets.token_hex(12)
        # The models' service knows the request by the same id, so that a label finds what a release said to it too; and its
        # segment, by which the release's guards may look.
        asked = replace(
            request, id=request_id, parameters={k: v for k, v in request.parameters.items() if k != "input_reference"}
        )
        if request.outputs:
            described = await self._inner.describe_model(request.model, request.version)
            check_requested(request.model, described.outputs, request.outputs)
        standing = await self._standing(request.model, segment)
        if standing.level is Level.HUMAN_ONLY:
            description = await self._inner.describe_model(request.model, request.version)
            version = request.version or description.versions[-1]
            rows = next((len(value) for value in request.inputs.values() if value.ndim > 1), 1)
            served = Served(request.model, request_id, version, segment, rows, None, DecidedBy.HUMAN_PENDING)
            item = self._item_for(settings, Level.HUMAN_ONLY, Why.LEVEL, request, reference, is_blind=True)
            return await self._ask_a_person(request, served, item)
        # The answer is read from all outputs as they are, whatever of them the caller asked for, and in whatever form.
        response = await self._inner.infer(replace(asked, outputs=()) if request.outputs else asked)
        suggestion = suggestion_of(response.outputs, settings.output)
        if request.outputs:
            response = replace(response, outputs=self._selected(request, response))
        served = replace(_served(response, request_id, segment, suggestion, DecidedBy.MODEL), inputs=request.inputs)
        if not standing.level.is_automatic:
            is_blind = standing.level is Level.SHADOW or self._chance.random() < settings.blind_share
            item = self._item_for(settings, standing.level, Why.LEVEL, request, reference, is_blind=is_blind)
            return await self._ask_a_person(request, replace(served, decided_by=DecidedBy.HUMAN_PENDING), item)
        # Drawn before the confidence is looked at: audits are of all requests, not of easy ones.
        is_audited = self._chance.random() < settings.audit_share
        if standing.level is Level.PARTIAL and not _is_sure(suggestion, standing.threshold):
            why = Why.AUDIT if is_audited else Why.LOW_CONFIDENCE
            item = self._item_for(settings, standing.level, why, request, reference, is_blind=is_audited)
            return await self._ask_a_person(request, replace(served, decided_by=DecidedBy.HUMAN_PENDING), item)
        told: dict[str, bool | int | float | str] = {}
        if is_audited:
            item = self._item_for(settings, standing.level, Why.AUDIT, request, reference, is_blind=True)
            told = await self._audit(request, served, item)
        else:
            await self._note(served)
        parameters = {**response.parameters, **told, **_said(served, standing.level)}
        return replace(response, id=request.id, parameters=parameters)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """`infer`; without a task where the request's model has no level."""
        is_decided = self._store.settings.get(request.model) is not None
        return (self._ask_decided if is_decided else ask_of(self._inner))(request, answer)

    async def run(self) -> None:
        """Writes down what was served and looks after lapsed audits, until cancelled."""
        reviewed = forgot = time.monotonic()
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()
            now = time.monotonic()
            try:
                if now - reviewed >= REVIEW_EVERY_S:
                    reviewed = now
                    if await asyncio.to_thread(self._store.review_levels):
                        self._standings.clear()
                if now - forgot >= FORGET_EVERY_S:
                    forgot = now
                    await asyncio.to_thread(self._store.forget)
            except StorageError as error:
                log.error("levels could not be looked after: %s", error)

    async def close(self) -> None:
        """Writes down what still waits."""
        await self.flush()

    def asked_for(self) -> set[tuple[str, str]]:
        """Model and segment of the requests of late."""
        return set(self._standings)

    def forget_levels(self) -> None:
        """Reads levels anew at the next request, because somebody moved one."""
        self._standings.clear()

    def _selected(self, request: InferenceRequest, response: InferenceResponse) -> Mapping[str, Array]:
        """What the caller asked for of a whole answer."""
        is_classified = any(output.parameters.get("classification") for output in request.outputs)
        names = self._class_names(response.model, response.version) if is_classified else None
        return select_outputs(response.outputs, request.outputs, names)

    async def _standing(self, model: str, segment: str) -> Standing:
        key, now = (model, segment), time.monotonic()
        cached = self._standings.get(key)
        if cached is not None and now - cached[0] < LEVEL_AGE_S:
            return cached[1]
        standing = await asyncio.to_thread(self._store.standing, model, segment)
        if len(self._standings) >= _MOST_CACHED:
            self._standings.clear()
        self._standings[key] = (now, standing)
        return standing

    def _item_for(
        self,
        settings: AutomationSettings,
        level: Level,
        why: Why,
        request: InferenceRequest,
        reference: str,
        *,
        is_blind: bool,
    ) -> NewItem:
        # A second opinion says how well people agree; that needs answers that no suggestion swayed.
        is_doubled = is_blind and level is not Level.HUMAN_ONLY and settings.noise_floor is None
        wants = 2 if is_doubled and self._chance.random() < settings.second_opinion_share else 1
        return NewItem(level, why, is_blind, wants, summarize(request.inputs), reference)

    async def _ask_a_person(self, request: InferenceRequest, served: Served, item: NewItem) -> InferenceResponse:
        """Only once the item is on disk is the caller told that somebody has it."""
        review_id = await asyncio.to_thread(self._put, request, served, item)
        parameters = {**_said(served, item.level), "review_id": review_id}
        return InferenceResponse(served.model, served.version, {}, request.id, parameters)

    def _put(self, request: InferenceRequest, served: Served, item: NewItem) -> str:
        """Blocking: pictures take their time."""
        if self._store.settings[request.model].shows_inputs:
            item = replace(item, exhibit=exhibit(request.inputs))
        return self._queue.put(served, item)

    async def _audit(
        self, request: InferenceRequest, served: Served, item: NewItem
    ) -> dict[str, bool | int | float | str]:
        """An audit that cannot be written down does not keep the caller from the answer; without audits the level lapses."""
        try:
            return {"review_id": await asyncio.to_thread(self._put, request, served, item)}
        except EdgewardError as error:
            self.lost_records += 1
            log.error("an audit of model %s was not written down: %s", served.model, error)
            return {}

    async def _note(self, served: Served) -> None:
        size_bytes = sum(value.nbytes for value in (served.inputs or {}).values())
        if self._input_bytes + size_bytes > MOST_INPUT_BYTES:
            served, size_bytes = replace(served, inputs=None), 0
        self._input_bytes += size_bytes
        self._waiting.append(served)
        if len(self._waiting) >= FLUSH_ROWS:
            await self.flush()

    async def flush(self) -> None:
        """Writes down what was answered and waits for that."""
        async with self._is_writing:
            batch, self._waiting, self._input_bytes = self._waiting, [], 0
            if not batch:
                return
            try:
                await asyncio.to_thread(self._store.record, batch)
            except StorageError as error:
                kept = [replace(one, inputs=None) for one in batch[-MOST_WAITING_ROWS:]]
                self.lost_records += len(batch) - len(kept)
                self._waiting = kept + self._waiting
                log.error(
                    "%d answers could not be written down yet, %d are lost: %s", len(kept), self.lost_records, error
                )


def _served(
    response: InferenceResponse, request_id: str, segment: str, suggestion: Suggestion, decided_by: DecidedBy
) -> Served:
    rows = len(suggestion.answer) if isinstance(suggestion.answer, list) else 1
    return Served(response.model, request_id, response.version, segment, rows, suggestion, decided_by)


def _is_sure(suggestion: Suggestion, threshold: float | None) -> bool:
    return threshold is not None and suggestion.confidence is not None and suggestion.confidence >= threshold


def _said(served: Served, level: Level) -> dict[str, bool | int | float | str]:
    return {"decided_by": str(served.decided_by), "automation": str(level), "request_id": served.request_id}


def _text(request: InferenceRequest, name: str, most: int) -> str:
    value = request.parameters.get(name, "")
    if not isinstance(value, str):
        raise InvalidInputError(f"parameter {name!r} is {value!r:.80}; expected a text of {most} characters at most")
    return check_text(value, f"parameter {name!r}", most)

"""Carries out the course of one request: moves become calls, and what becomes of those, and time, become events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent.calls import Calls
from edge_agent.cascade import Cascade
from edge_agent.counts import Hedge
from edge_agent.course import Answered, Ask, Course, Deliver, Due, Event, Failed, GiveUp, Move, Opening, Withdraw
from edge_agent.plan import Step
from runtime.errors import EdgewardError
from runtime.wire.values import InferenceRequest, InferenceResponse, RequestedOutput, ServedBy

if TYPE_CHECKING:
    from edge_agent.decision_log import DecisionLog


class Flight:
    """One request under way, from its opening to its answer or error."""

    def __init__(
        self,
        calls: Calls,
        request: InferenceRequest,
        opening: Opening,
        cascade: Cascade | None,
        decision_log: DecisionLog | None,
    ) -> None:
        self._calls = calls
        self._log = decision_log
        deadline = opening.facts.deadline
        self._request = request if request.deadline == deadline else replace(request, deadline=deadline)
        self._opening = opening
        self._cascade = cascade if opening.rule.threshold is not None else None
        self._course = Course(opening)
        self._tasks: dict[ServedBy, asyncio.Task[InferenceResponse]] = {}
        self._answers: dict[ServedBy, InferenceResponse] = {}
        self._alone: tuple[ServedBy, Awaitable[InferenceResponse]] | None = None
        """The first arm, where nothing can overtake it: awaited as it is, for a task of its own and its waking cost 40 µs."""
        self.has_asked = False
        """Whether any arm was."""
        self._hedged: ServedBy | None = None
        self._story: list[tuple[Event | None, list[Move]]] = []

    async def run(self) -> tuple[Step, InferenceResponse]:
        """The step whose answer stands, and the answer."""
        try:
            moves = self._course.open()
            self._tell(None, moves)
            while True:
                for move in moves:
                    if isinstance(move, Ask):
                        self._begin(move)
                    elif isinstance(move, Withdraw):
                        self._calls.let_go(self._tasks.pop(move.arm))
                    elif isinstance(move, GiveUp):
                        raise move.error
                    else:
                        return self._deliver(move)
                event = await self._next_event()
                moves = self._course.on(event)
                self._tell(event, moves)
        finally:
            for task in self._tasks.values():
                self._calls.let_go(task)
            if self._log is not None:
                self._log.write(self._opening, self._story)

    def _tell(self, event: Event | None, moves: list[Move]) -> None:
        if self._log is not None:
            self._story.append((event, moves))

    def _begin(self, move: Ask) -> None:
        arm = move.step.arm
        if move.is_hedge:
            self._hedged = arm
            self._calls.note_hedge(Hedge.SENT)
        if arm is ServedBy.EDGE:
            asking = self._calls.ask_edge(self._for_the_edge(), self._opening.local.predicted_s)
        else:
            asking = self._calls.ask_cloud(self._request, is_idempotent=self._opening.facts.is_idempotent)
        if self._course.wake_at is None and not self.has_asked:
            self._alone = (arm, asking)
        else:
            self._tasks[arm] = asyncio.create_task(asking)
        self.has_asked = True

    async def _next_event(self) -> Event:
        if self._alone is not None:
            (arm, asking), self._alone = self._alone, None
            return await self._event_of(arm, asking)
        wake_at = self._course.wake_at
        timeout_s = None if wake_at is None else max(wake_at - time.monotonic(), 0.0)
        done, _ = await asyncio.wait(self._tasks.values(), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        now = time.monotonic()
        for arm, task in self._tasks.items():
            if task not in done:
                continue
            del self._tasks[arm]
            return await self._event_of(arm, task)
        tokens = self._calls.hedge_budget.tokens
        if self._course.is_hedge_due(now) and tokens < 1.0:
            self._calls.note_hedge(Hedge.HELD_BACK)
        return Due(now, tokens)

    async def _event_of(self, arm: ServedBy, asking: Awaitable[InferenceResponse]) -> Event:
        try:
            answer = await asking
        except EdgewardError as error:
            return Failed(arm, time.monotonic(), error)
        self._answers[arm] = answer
        return Answered(arm, time.monotonic(), self._confidence(arm, answer))

    def _deliver(self, move: Deliver) -> tuple[Step, InferenceResponse]:
        if move.step.arm is self._hedged:
            self._calls.note_hedge(Hedge.WON)
        answer = self._answers[move.step.arm]
        if self._cascade is not None and move.step.arm is ServedBy.EDGE:
            answer = self._cascade.without_extra(answer, self._request.outputs)
        return move.step, answer

    def _for_the_edge(self) -> InferenceRequest:
        if self._cascade is None or not self._request.outputs:
            return self._request
        if any(output.name == self._cascade.output for output in self._request.outputs):
            return self._request
        return replace(self._request, outputs=(*self._request.outputs, RequestedOutput(self._cascade.output)))

    def _confidence(self, arm: ServedBy, answer: InferenceResponse) -> float | None:
        if self._cascade is None or arm is ServedBy.CLOUD or not self._cascade.is_fitted_on(answer):
            return None
        return self._cascade.confidence(answer.outputs)

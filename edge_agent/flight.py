"""Carries out the course of one request: moves become calls, and what becomes of those, and time, become events.

By calls on the event loop alone: a task that waits for another one and a clock would cost a small model's request more than its
run does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from edge_agent.calls import Calls
from edge_agent.cascade import Cascade
from edge_agent.counts import Hedge
from edge_agent.course import Answered, Ask, Course, Deliver, Due, Event, Failed, GiveUp, Move, Opening, Withdraw
from edge_agent.plan import Step
from runtime.errors import EdgewardError
from runtime.serving import asking
from runtime.wire.values import InferenceRequest, InferenceResponse, RequestedOutput, ServedBy

if TYPE_CHECKING:
    from edge_agent.decision_log import DecisionLog


@dataclass(frozen=True, slots=True)
class Landed:
    """The answer that stands, and the step that it was asked by."""

    step: Step
    response: InferenceResponse


Landing = Landed | BaseException
"""What became of a request."""


class Flight:
    """One request under way, from its opening to its answer or error, which `land` is told once. Used on one event loop."""

    def __init__(
        self,
        calls: Calls,
        request: InferenceRequest,
        opening: Opening,
        cascade: Cascade | None,
        decision_log: DecisionLog | None,
        land: Callable[[Landing], None],
    ) -> None:
        self._calls = calls
        self._log = decision_log
        deadline = opening.facts.deadline
        self._request = request if request.deadline == deadline else replace(request, deadline=deadline)
        self._opening = opening
        self._cascade = cascade if opening.rule.threshold is not None else None
        self._land = land
        self._course = Course(opening)
        # An answer comes in the context of whichever request it was run with; what follows from it belongs to this one's spans and
        # log lines.
        self._context = copy_context()
        self._under_way: dict[ServedBy, asking.Withdraw] = {}
        self._answers: dict[ServedBy, InferenceResponse] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._hedged: ServedBy | None = None
        self._story: list[tuple[Event | None, list[Move]]] = []
        self._is_over = False
        self.has_asked = False
        """Whether any arm was."""

    def start(self) -> None:
        """Asks the first arm; raises where no arm is to be asked, or each fails at once. `land` is told only after this."""
        try:
            moves = self._course.open()
            self._tell(None, moves)
            landing = self._carry_out(moves)
        except BaseException:
            self._end()
            raise
        if landing is not None:
            assert isinstance(landing, BaseException), "answers come later"
            raise landing

    def withdraw(self) -> bool:
        """Nobody waits any more: whoever is asked is let go, and `land` is told nothing. False where it was told already."""
        was_over = self._is_over
        if not was_over:
            self._end()
        return not was_over

    def _carry_out(self, moves: list[Move]) -> Landing | None:
        """None where the request goes on."""
        ahead = deque(moves)
        while ahead:
            move = ahead.popleft()
            if isinstance(move, Ask):
                failed = self._begin(move)
                if failed is not None:
                    ahead.extend(self._next(failed))
            elif isinstance(move, Withdraw):
                self._under_way.pop(move.arm)()
            else:
                landing = move.error if isinstance(move, GiveUp) else self._landed(move)
                self._end()
                return landing
        self._wait()
        return None

    def _next(self, event: Event) -> list[Move]:
        moves = self._course.on(event)
        self._tell(event, moves)
        return moves

    def _tell(self, event: Event | None, moves: list[Move]) -> None:
        if self._log is not None:
            self._story.append((event, moves))

    def _begin(self, move: Ask) -> Failed | None:
        """Asks an arm; what it says at once is an event like any other."""
        arm = move.step.arm
        if move.is_hedge:
            self._hedged = arm
            self._calls.note_hedge(Hedge.SENT)
        self.has_asked = True
        answer = partial(self._on_answer, arm)
        try:
            if arm is ServedBy.EDGE:
                asked = self._context.run(
                    self._calls.ask_edge, self._for_the_edge(), self._opening.local.predicted_s, answer
                )
            else:
                asked = self._context.run(
                    self._calls.ask_cloud, self._request, answer, is_idempotent=self._opening.facts.is_idempotent
                )
        except EdgewardError as error:
            return Failed(arm, time.monotonic(), error)
        self._under_way[arm] = asked
        return None

    def _wait(self) -> None:
        """For the time that the course wants to be told of."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = self._course.wake_at
        if at is not None:
            delay_s = max(at - time.monotonic(), 0.0)
            self._alarm = asyncio.get_running_loop().call_later(delay_s, self._go_on, self._due)

    def _on_answer(self, arm: ServedBy, response: InferenceResponse | None, error: BaseException | None) -> None:
        del self._under_way[arm]
        if error is None or isinstance(error, EdgewardError):
            self._go_on(partial(self._answered, arm, response, error))
        else:  # nobody foresaw it, so nobody knows what would help
            self._end()
            self._context.run(self._land, error)

    def _go_on(self, event: Callable[[], Event]) -> None:
        try:
            landing = self._carry_out(self._next(event()))
        except Exception as error:  # of whatever kind: somebody waits to be told
            self._end()
            landing = error
        if landing is not None:
            self._context.run(self._land, landing)

    def _answered(self, arm: ServedBy, response: InferenceResponse | None, error: EdgewardError | None) -> Event:
        if error is not None:
            return Failed(arm, time.monotonic(), error)
        assert response is not None, "an answer is one or the other"
        self._answers[arm] = response
        return Answered(arm, time.monotonic(), self._confidence(arm, response))

    def _due(self) -> Event:
        self._alarm = None
        now, tokens = time.monotonic(), self._calls.hedge_budget.tokens
        if self._course.is_hedge_due(now) and tokens < 1.0:
            self._calls.note_hedge(Hedge.HELD_BACK)
        return Due(now, tokens)

    def _landed(self, move: Deliver) -> Landed:
        if move.step.arm is self._hedged:
            self._calls.note_hedge(Hedge.WON)
        answer = self._answers[move.step.arm]
        if self._cascade is not None and move.step.arm is ServedBy.EDGE:
            answer = self._cascade.without_extra(answer, self._request.outputs)
        return Landed(move.step, answer)

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for let_go in self._under_way.values():
            let_go()
        self._under_way.clear()
        if self._log is not None:
            self._log.write(self._opening, self._story)

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

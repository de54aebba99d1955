"""The agent's data plane: has every request answered by the edge or the cloud, as `routing` decides, and says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Protocol

from edge_agent.budget import TokenBucket
from edge_agent.cascade import Cascade
from edge_agent.counts import Counts, Hedge
from edge_agent.course import Answered, Ask, Course, Deliver, Due, Event, Failed, GiveUp, Move, Opening, Withdraw
from edge_agent.decision_log import DecisionLog
from edge_agent.drill import Drill
from edge_agent.memory import MemoryGauge
from edge_agent.pace import Paces
from edge_agent.request_options import facts_of, for_the_cloud, policy_of
from edge_agent.routing import Policy, Step, Why, retell
from edge_agent.rules import Rule
from edge_agent.states import NO_GATEWAY, CloudState, LocalState
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from runtime.serving.service import InferenceService
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Privacy,
    RequestedOutput,
    ServedBy,
    ServerDescription,
)

log = logging.getLogger(__name__)

# Nobody should wait for ever because no deadline was given: long enough for a large model on a slow device and a
# fallback after it, short enough for a person to see an error rather than a hanging program.
DEFAULT_DEADLINE_S: Final = 10.0
# A reason quotes errors, which may quote others; replies to small requests should stay small.
MAX_REASON_CHARACTERS: Final = 500
# The tail beyond the 95th percentile, which is what hedges are for; more would be load without an effect on the tail.
HEDGE_SHARE: Final = 0.05


class Local(InferenceService, Protocol):
    """The runtime of this process, as the agent needs it; `runtime.serving.local_service.LocalService` is one.

    `infer` ends with `DeadlineExceededError` when the request's deadline passes, also while the model still runs.
    """

    def predict_wait_s(self, name: str, version: str, rows: int) -> float | None:
        """Seconds until a request of so many rows would be answered, queue and run; None: unknown.

        `ModelNotFoundError` or `ModelNotReadyError` when it would not be answered at all.
        """


class Upstream(Protocol):
    """The gateway, as the agent needs it; `edge_agent.upstream.Gateway` is one. Raises `runtime.errors` only."""

    def state(self, now: float, model: str) -> CloudState:
        """What routing may know of it for requests to `model`; costs no network."""

    async def infer(self, request: InferenceRequest, *, is_idempotent: bool = True) -> InferenceResponse:
        """One inference there, within the request's deadline; tried again only where it may run twice."""

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """A model's signature there."""

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether it would answer for the model; False when it cannot be asked."""


class AgentService:
    """An `InferenceService` over the runtime here and an optional gateway. Used on one event loop."""

    def __init__(
        self,
        local: Local,
        upstream: Upstream | None = None,
        policy: Policy = Policy.EDGE_FIRST,
        default_deadline_s: float = DEFAULT_DEADLINE_S,
        drill: Drill | None = None,
        *,
        default_rule: Rule | None = None,
        rules: Mapping[str, Rule] = MappingProxyType({}),
        hedge_share: float = HEDGE_SHARE,
        cascades: Mapping[str, Cascade] = MappingProxyType({}),
        memory: MemoryGauge | None = None,
        decision_log: DecisionLog | None = None,
    ) -> None:
        self.counts = Counts()
        self._local = local
        self._upstream = upstream
        self._default_rule = Rule(policy) if default_rule is None else default_rule
        self._rules = rules
        self._default_deadline_s = default_deadline_s
        self._drill = drill
        self._hedge_budget = TokenBucket(hedge_share)
        self._cascades = cascades
        self._memory = memory
        self._decision_log = decision_log
        self._local_paces = Paces()
        self._last_why: dict[str, Why] = {}
        self._withdrawn: set[asyncio.Task[InferenceResponse]] = set()
        self._in_flight = 0
        self._is_draining = False
        self._idle = asyncio.Event()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The answer of the arm that the rule prefers, or of the other where that fails; see the reply's `reason`.

        When no arm answers, the error has the class of the first choice and tells the story of both.
        """
        if self._is_draining:
            raise ModelNotReadyError("this agent is shutting down and takes no new requests; retry when it is back")
        self._in_flight += 1
        self.counts.requests += 1
        self._hedge_budget.note_request()
        try:
            cascade = self._cascades.get(request.model)
            opening = self._opening(request, cascade)
            step, response = await _Flight(self, request, opening, cascade).run()
        except EdgewardError as error:
            self.counts.note_failure(error)
            raise
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        self.counts.note_answer(step)
        if step.why is not self._last_why.get(request.model, Why.FIRST_CHOICE):
            self._say_change(request.model, step)
        said = {**response.parameters, "served_by": str(step.arm)}
        if step.is_worth_telling:
            # What the arm itself has to tell, such as a device that vanished, stands beside why it was taken.
            told = [step.reason, *([str(said["reason"])] if "reason" in said else [])]
            said["reason"] = "; ".join(told)[:MAX_REASON_CHARACTERS]
        return replace(response, parameters=said)

    def rule_of(self, model: str) -> Rule:
        """The rule for requests to `model` that ask for nothing else."""
        return self._rules.get(model, self._default_rule)

    def cascade_of(self, model: str) -> Cascade | None:
        """How sure a local answer of `model` must be to stand; None: it always stands."""
        return self._cascades.get(model)

    def describe_paces(self) -> dict[str, object]:
        """How much later than predicted this device answered lately, by model, for `agent status`."""
        now = time.monotonic()
        told: dict[str, object] = {}
        for model, pace in self._local_paces.items():
            late_s = pace.predicted_s(now)
            told[model] = {
                "answers": pace.count(now),
                "late_p95_ms": None if late_s is None else round(late_s * 1e3, 3),
            }
        return told

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """As the local runtime describes it, else as the gateway does."""
        try:
            return await self._local.describe_model(name, version)
        except (ModelNotFoundError, ModelNotReadyError) as error:
            if self._upstream is None or not self._may_ask_the_cloud(name):
                raise
            here = error
        try:
            return await self._upstream.describe_model(name, version)
        except EdgewardError as there:
            raise retell([(ServedBy.EDGE, here), (ServedBy.CLOUD, there)], ()) from there

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether one of the arms that the policy allows would answer."""
        if self.rule_of(name).policy is not Policy.CLOUD_ONLY and await self._local.is_model_ready(name, version):
            return True
        if self._upstream is None or not self._may_ask_the_cloud(name):
            return False
        return await self._upstream.is_model_ready(name, version)

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        """What models did on this device."""
        return self._local.statistics(name, version)

    def describe_server(self) -> ServerDescription:
        """The local runtime's description."""
        return self._local.describe_server()

    def is_live(self) -> bool:
        """Whether the local runtime works."""
        return self._local.is_live()

    def is_ready(self) -> bool:
        """Whether the local runtime takes requests; models that only the gateway has need no local one."""
        return not self._is_draining and self._local.is_ready()

    def index(self) -> list[IndexEntry]:
        """The models of this device."""
        return self._local.index()

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Loads a model on this device."""
        await self._local.load(name, parameters)

    async def unload(self, name: str) -> None:
        """Unloads a model on this device."""
        await self._local.unload(name)

    async def drain(self) -> None:
        """Takes no new requests, and has those under way answered by whichever arm: only then the local one may close."""
        self._is_draining = True
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()
        await self._local.drain()

    def _may_ask_the_cloud(self, model: str) -> bool:
        rule = self.rule_of(model)
        return rule.policy is not Policy.EDGE_ONLY and rule.privacy is not Privacy.LOCAL_ONLY

    def _say_change(self, model: str, step: Step) -> None:
        """One line when a model's answers begin to come for another reason, not one for each of thousands of requests."""
        self._last_why[model] = step.why
        if step.why in _USUAL:
            log.info("model %s, from now on: %s", model, step.reason)
        else:
            log.warning("model %s, from now on: %s", model, step.reason)

    def _opening(self, request: InferenceRequest, cascade: Cascade | None) -> Opening:
        now = time.monotonic()
        facts = facts_of(request, now + self._default_deadline_s)
        rule = self.rule_of(request.model)
        if cascade is not None and cascade.is_told_by(request.outputs):
            rule = replace(rule, threshold=cascade.threshold)
        rule = rule.asked_for(policy_of(request), facts.privacy)
        cloud = NO_GATEWAY if self._upstream is None else self._upstream.state(now, request.model)
        return Opening(rule, facts, self._local_state(request, now, facts.deadline - now), cloud, now)

    def _local_state(self, request: InferenceRequest, now: float, left_s: float) -> LocalState:
        rows = next((len(value) for value in request.inputs.values() if value.ndim), 1)
        try:
            wait_s = self._local.predict_wait_s(request.model, request.version, rows)
        except EdgewardError as error:
            return LocalState(refusal=error)
        pressure = "" if self._memory is None else self._memory.pressure(now)
        pace = self._local_paces.of(request.model)
        late_s = pace.predicted_s(now)
        if wait_s is None or late_s is None:
            return LocalState(predicted_s=wait_s, pressure=pressure, floor_s=wait_s)
        usually_late_s = pace.typical_s(now) or 0.0
        return LocalState(
            predicted_s=wait_s + late_s,
            typical_s=wait_s + usually_late_s,
            is_live=True,
            pressure=pressure,
            # A queue that is too long needs no trial: it is known, not remembered.
            unasked_s=pace.unasked_s(now) if wait_s <= left_s else 0.0,
            floor_s=wait_s,
        )

    async def ask_edge(self, request: InferenceRequest, predicted_s: float | None) -> InferenceResponse:
        """One local run, whose time is remembered; for the carrying out of a course."""
        started = time.monotonic()
        pace = self._local_paces.of(request.model)
        pace.note_asked(started)
        self.counts.asked[ServedBy.EDGE] += 1
        try:
            if self._drill is not None and (stall_s := self._drill.check()):
                await asyncio.sleep(stall_s)
            response = await self._local.infer(request)
        except (DeadlineExceededError, asyncio.CancelledError):
            now = time.monotonic()
            pace.note_silence(now - started, now)
            raise
        now = time.monotonic()
        pace.note_answer(max(now - started - (predicted_s or 0.0), 0.0), 0.0, now)
        return response

    async def ask_cloud(self, request: InferenceRequest, *, is_idempotent: bool) -> InferenceResponse:
        """One inference of the gateway; for the carrying out of a course."""
        assert self._upstream is not None, "routing plans no cloud step without a gateway"
        self.counts.asked[ServedBy.CLOUD] += 1
        return await self._upstream.infer(for_the_cloud(request), is_idempotent=is_idempotent)

    def hedge_tokens(self) -> float:
        """What the hedges' budget holds."""
        return self._hedge_budget.tokens

    def note_hedge(self, what: Hedge) -> None:
        """A hedge was sent, has won, or was held back."""
        self.counts.hedges[what] += 1
        if what is Hedge.SENT:
            self._hedge_budget.take()

    def let_go(self, task: asyncio.Task[InferenceResponse]) -> None:
        """Cancels a call that nobody waits for any more, and sees it end."""
        if not task.done():
            self._withdrawn.add(task)
            task.add_done_callback(self._withdrawn.discard)
        task.add_done_callback(_look_at)
        task.cancel()

    def write_down(self, opening: Opening, story: list[tuple[Event | None, list[Move]]]) -> None:
        """Logs a course that has ended, where decisions are logged."""
        if self._decision_log is not None:
            self._decision_log.write(opening, story)


class _Flight:
    """Carries out the course of one request."""

    def __init__(
        self, service: AgentService, request: InferenceRequest, opening: Opening, cascade: Cascade | None
    ) -> None:
        self._service = service
        self._request = replace(request, deadline=opening.facts.deadline)
        self._opening = opening
        self._cascade = cascade if opening.rule.threshold is not None else None
        self._course = Course(opening)
        self._tasks: dict[ServedBy, asyncio.Task[InferenceResponse]] = {}
        self._answers: dict[ServedBy, InferenceResponse] = {}
        self._hedged: ServedBy | None = None
        self._story: list[tuple[Event | None, list[Move]]] = []

    async def run(self) -> tuple[Step, InferenceResponse]:
        """The step whose answer stands, and the answer."""
        try:
            moves = self._course.open()
            self._story.append((None, moves))
            while True:
                for move in moves:
                    if isinstance(move, Ask):
                        self._begin(move)
                    elif isinstance(move, Withdraw):
                        self._service.let_go(self._tasks.pop(move.arm))
                    elif isinstance(move, GiveUp):
                        raise move.error
                    else:
                        return self._deliver(move)
                event = await self._next_event()
                moves = self._course.on(event)
                self._story.append((event, moves))
        finally:
            for task in self._tasks.values():
                self._service.let_go(task)
            self._service.write_down(self._opening, self._story)

    def _begin(self, move: Ask) -> None:
        arm = move.step.arm
        if move.is_hedge:
            self._hedged = arm
            self._service.note_hedge(Hedge.SENT)
        if arm is ServedBy.EDGE:
            asking = self._service.ask_edge(self._for_the_edge(), self._opening.local.predicted_s)
        else:
            asking = self._service.ask_cloud(self._request, is_idempotent=self._opening.facts.is_idempotent)
        self._tasks[arm] = asyncio.create_task(asking)

    async def _next_event(self) -> Event:
        wake_at = self._course.wake_at
        timeout_s = None if wake_at is None else max(wake_at - time.monotonic(), 0.0)
        done, _ = await asyncio.wait(self._tasks.values(), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        now = time.monotonic()
        for arm, task in self._tasks.items():
            if task not in done:
                continue
            del self._tasks[arm]
            try:
                answer = task.result()
            except EdgewardError as error:
                return Failed(arm, now, error)
            self._answers[arm] = answer
            return Answered(arm, now, self._confidence(arm, answer))
        tokens = self._service.hedge_tokens()
        if self._course.is_hedge_due(now) and tokens < 1.0:
            self._service.note_hedge(Hedge.HELD_BACK)
        return Due(now, tokens)

    def _deliver(self, move: Deliver) -> tuple[Step, InferenceResponse]:
        if move.step.arm is self._hedged:
            self._service.note_hedge(Hedge.WON)
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
        if self._cascade is None or arm is ServedBy.CLOUD:
            return None
        return self._cascade.confidence(answer.outputs)


_USUAL: Final = frozenset({Why.FIRST_CHOICE, Why.ASKED_FOR, Why.PRIVACY, Why.CONFIDENT, Why.UNSURE, Why.TRIAL})


def _look_at(task: asyncio.Task[InferenceResponse]) -> None:
    """Takes note of how a withdrawn call ended: nobody else will, and asyncio would complain."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, EdgewardError):
        log.error("a withdrawn call failed in an unforeseen way", exc_info=error)

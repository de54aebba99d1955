"""The agent's data plane: has every request answered by the edge or the cloud, as `routing` decides, and says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from edge_agent.budget import HEDGE_SHARE, TokenBucket
from edge_agent.calls import Calls, Local, Upstream
from edge_agent.cascade import Cascade
from edge_agent.cascades import no_cascade
from edge_agent.course import Opening
from edge_agent.drill import Drill
from edge_agent.falling_back import retell
from edge_agent.flight import Flight, Landed, Landing
from edge_agent.memory import MemoryGauge
from edge_agent.plan import Step, Why
from edge_agent.request_options import DEFAULT_DEADLINE_S, facts_of, policy_of
from edge_agent.rules import Policy, Rule
from edge_agent.states import NO_GATEWAY, LocalState
from runtime.errors import (
    EdgewardError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from runtime.serving.asking import Answer, Withdraw, answer_of
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Privacy,
    ServedBy,
    ServerDescription,
)

if TYPE_CHECKING:
    from edge_agent.decision_log import DecisionLog

log = logging.getLogger(__name__)

# A reason quotes errors, which may quote others; replies to small requests should stay small.
MAX_REASON_CHARACTERS: Final = 500


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
        cascades: Callable[[str, str], Cascade | str | None] = no_cascade,
        memory: MemoryGauge | None = None,
        decision_log: DecisionLog | None = None,
    ) -> None:
        self._hedge_budget = TokenBucket(hedge_share)
        self._calls = Calls(local, upstream, self._hedge_budget, drill)
        self.counts = self._calls.counts
        self._local = local
        self._upstream = upstream
        self._default_rule = Rule(policy) if default_rule is None else default_rule
        self._rules = rules
        self._default_deadline_s = default_deadline_s
        self._cascades = cascades
        self._memory = memory
        self._decision_log = decision_log
        self._last_why: dict[str, Why] = {}
        self._in_flight = 0
        self._is_draining = False
        self._idle = asyncio.Event()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The answer of the arm that the rule prefers, or of the other where that fails; see the reply's `reason`.

        When no arm answers, the error has the class of the first choice and tells the story of both.
        """
        return await answer_of(self.ask, request)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """`infer` without a task; see `runtime.serving.asking.Ask`."""
        if self._is_draining:
            raise ModelNotReadyError("this agent is shutting down and takes no new requests; retry when it is back")
        self._in_flight += 1
        self.counts.requests += 1
        self._hedge_budget.note_request()
        flight: Flight | None = None
        try:
            wished = self.cascade_of(request.model, request.version)
            cascade = None if isinstance(wished, str) else wished
            opening = self._opening(request, cascade)

            def land(landing: Landing) -> None:
                self._leave()
                try:
                    response = self._reply(request, landing, wished) if isinstance(landing, Landed) else None
                    error = None if isinstance(landing, Landed) else landing
                except Exception as unforeseen:  # of whatever kind: somebody waits to be told
                    response, error = None, unforeseen
                if error is not None:
                    self._note_failure(error)
                answer(response, error)

            flight = Flight(self._calls, request, opening, cascade, self._decision_log, land)
            flight.start()
        except BaseException as error:
            self._leave()
            if flight is None or not flight.has_asked:
                self.counts.refused_at_once += isinstance(error, EdgewardError)
            self._note_failure(error)
            raise
        begun = flight

        def withdraw() -> None:
            if begun.withdraw():
                self._leave()

        return withdraw

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _note_failure(self, error: BaseException) -> None:
        if isinstance(error, EdgewardError):
            self.counts.note_failure(error)

    def _reply(self, request: InferenceRequest, landed: Landed, wished: Cascade | str | None) -> InferenceResponse:
        """The answer as it goes out: by whom, and why where that is not the rule's first choice."""
        step, response = landed.step, landed.response
        self.counts.note_answer(step)
        # A trial is one request now and then, and no change; what it finds out may be one.
        if step.why not in _TRIALS and step.why is not self._last_why.get(request.model, Why.FIRST_CHOICE):
            self._say_change(request.model, step)
        told = [step.reason] if step.is_worth_telling else []
        if isinstance(wished, str) and step.arm is ServedBy.EDGE and policy_of(request) is None:
            told.append(wished)
        if not told and response.parameters.get("served_by") == str(step.arm):
            return response  # with the very mapping that encoders know
        said = {**response.parameters, "served_by": str(step.arm)}
        if told:
            # What the arm itself has to tell, such as a device that vanished, stands beside why it was taken.
            told += [str(said["reason"])] if "reason" in said else []
            said["reason"] = "; ".join(told)[:MAX_REASON_CHARACTERS]
        return replace(response, parameters=said)

    def rule_of(self, model: str) -> Rule:
        """The rule for requests to `model` that ask for nothing else."""
        return self._rules.get(model, self._default_rule)

    def cascade_of(self, model: str, version: str = "") -> Cascade | str | None:
        """How sure a local answer of `model` must be to stand; a text: why that is not known now; None: it always stands."""
        return self._cascades(model, version)

    def describe_paces(self) -> dict[str, object]:
        """How much later than predicted this device answered lately, by model, for `agent status`."""
        now = time.monotonic()
        told: dict[str, object] = {}
        for model, pace in self._calls.local_paces.items():
            late_s = pace.read(now).predicted_s
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
        late = self._calls.local_paces.of(request.model).read(now)
        if wait_s is None or late.predicted_s is None:
            return LocalState(predicted_s=wait_s, pressure=pressure, floor_s=wait_s)
        return LocalState(
            predicted_s=wait_s + late.predicted_s,
            typical_s=wait_s + (late.typical_s or 0.0),
            is_live=True,
            pressure=pressure,
            # A queue that is too long needs no trial: it is known, not remembered.
            unasked_s=late.unasked_s if wait_s <= left_s else 0.0,
            floor_s=wait_s,
        )


_TRIALS: Final = frozenset({Why.TRIAL, Why.BESIDE_TRIAL})
_USUAL: Final = frozenset({Why.FIRST_CHOICE, Why.ASKED_FOR, Why.PRIVACY, Why.CONFIDENT, Why.UNSURE})

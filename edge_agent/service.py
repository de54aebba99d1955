"""The agent's data plane: has every request answered by the edge or the cloud, as `routing` decides, and says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from edge_agent.counts import Counts
from edge_agent.drill import Drill
from edge_agent.routing import (
    Plan,
    Policy,
    Refusal,
    RequestFacts,
    Step,
    Why,
    after_failure,
    decide,
    may_fall_back,
    retell,
)
from edge_agent.states import NO_GATEWAY, CloudState, LocalState
from runtime.errors import (
    EdgewardError,
    InvalidInputError,
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
    Parameter,
    Privacy,
    Route,
    ServedBy,
    ServerDescription,
)

log = logging.getLogger(__name__)

# Nobody should wait for ever because no deadline was given: long enough for a large model on a slow device and a
# fallback after it, short enough for a person to see an error rather than a hanging program.
DEFAULT_DEADLINE_S: Final = 10.0
# A reason quotes errors, which may quote others; replies to small requests should stay small.
MAX_REASON_CHARACTERS: Final = 500


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

    def state(self, now: float) -> CloudState:
        """What routing may know of it; costs no network."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """One inference there, within the request's deadline."""

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
    ) -> None:
        self.counts = Counts()
        self._local = local
        self._upstream = upstream
        self._policy = policy
        self._default_deadline_s = default_deadline_s
        self._drill = drill
        self._last_why: dict[str, Why] = {}
        self._in_flight = 0
        self._is_draining = False
        self._idle = asyncio.Event()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The answer of the arm that the policy prefers, or of the other where that fails; see the reply's `reason`.

        When no arm answers, the error has the class of the first choice and tells the story of both.
        """
        if self._is_draining:
            raise ModelNotReadyError("this agent is shutting down and takes no new requests; retry when it is back")
        self._in_flight += 1
        try:
            facts = self._facts(request)
            now = time.monotonic()
            decision = decide(self._policy, facts, self._local_state(request), self._cloud_state(now), now)
            if isinstance(decision, Refusal):
                raise decision.error
            step, response = await self._carry_out(decision, request)
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

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """As the local runtime describes it, else as the gateway does."""
        try:
            return await self._local.describe_model(name, version)
        except (ModelNotFoundError, ModelNotReadyError) as error:
            if self._upstream is None or self._policy is Policy.EDGE_ONLY:
                raise
            here = error
        try:
            return await self._upstream.describe_model(name, version)
        except EdgewardError as there:
            raise retell([(ServedBy.EDGE, here), (ServedBy.CLOUD, there)], ()) from there

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether one of the arms that the policy allows would answer."""
        if self._policy is not Policy.CLOUD_ONLY and await self._local.is_model_ready(name, version):
            return True
        if self._upstream is None or self._policy is Policy.EDGE_ONLY:
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

    def _say_change(self, model: str, step: Step) -> None:
        """One line when a model's answers begin to come for another reason, not one for each of thousands of requests."""
        self._last_why[model] = step.why
        level = logging.INFO if step.why in (Why.FIRST_CHOICE, Why.ASKED_FOR, Why.PRIVACY) else logging.WARNING
        log.log(level, "model %s, from now on: %s", model, step.reason)

    def _facts(self, request: InferenceRequest) -> RequestFacts:
        route, privacy = (request.parameters.get(name) for name in ("route", "privacy"))
        return RequestFacts(
            route=Route.AUTO if route is None else _one_of(Route, "route", route),
            privacy=Privacy.ANY if privacy is None else _one_of(Privacy, "privacy", privacy),
            deadline=time.monotonic() + self._default_deadline_s if request.deadline is None else request.deadline,
        )

    def _local_state(self, request: InferenceRequest) -> LocalState:
        rows = next((len(value) for value in request.inputs.values() if value.ndim), 1)
        try:
            return LocalState(predicted_s=self._local.predict_wait_s(request.model, request.version, rows))
        except EdgewardError as error:
            return LocalState(refusal=error)

    def _cloud_state(self, now: float) -> CloudState:
        return NO_GATEWAY if self._upstream is None else self._upstream.state(now)

    async def _carry_out(self, plan: Plan, request: InferenceRequest) -> tuple[Step, InferenceResponse]:
        failures: list[tuple[ServedBy, EdgewardError]] = []
        step = plan.steps[0]
        while True:
            try:
                return step, await self._ask(step, request)
            except EdgewardError as error:
                failures.append((step.arm, error))
                following = after_failure(plan, step, error, time.monotonic())
                if following is None:
                    if len(failures) == 1 and not may_fall_back(step.arm, error):
                        raise
                    raise retell(failures, plan.left_out) from error
            step = following

    async def _ask(self, step: Step, request: InferenceRequest) -> InferenceResponse:
        if step.arm is ServedBy.CLOUD:
            assert self._upstream is not None, "routing plans no cloud step without a gateway"
            ours = {name: value for name, value in request.parameters.items() if name not in ("route", "privacy")}
            return await self._upstream.infer(replace(request, deadline=step.deadline, parameters=ours))
        if self._drill is not None:
            self._drill.check()
        return await self._local.infer(replace(request, deadline=step.deadline))


E = TypeVar("E", Route, Privacy)


def _one_of(kind: type[E], name: str, value: Parameter) -> E:
    try:
        return kind(value)  # type: ignore[arg-type]  # another type is no member either
    except ValueError:
        raise InvalidInputError(f"parameter {name!r} is {value!r}; expected one of {', '.join(kind)}") from None

"""Calls to both arms: made, timed, counted and withdrawn. What the carrying out of a course needs, and nothing that decides."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from edge_agent.budget import TokenBucket
from edge_agent.counts import Counts, Hedge
from edge_agent.drill import Drill, stalled
from edge_agent.pace import Paces
from edge_agent.request_options import for_the_cloud
from edge_agent.states import CloudState
from runtime.errors import DeadlineExceededError
from runtime.serving.asking import Answer, Ask, Withdraw, ask_in_task, ask_of
from runtime.serving.service import InferenceService
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, ServedBy


class Local(InferenceService, Protocol):
    """The runtime of this process, as the agent needs it; `runtime.serving.local_service.LocalService` is one.

    `infer`, and `ask` where it has one, end with `DeadlineExceededError` when the request's deadline passes, also while the model
    still runs.
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


class Calls:
    """Both arms. Used on one event loop."""

    def __init__(
        self, local: Local, upstream: Upstream | None, hedge_budget: TokenBucket, drill: Drill | None = None
    ) -> None:
        self.counts = Counts()
        self.local_paces = Paces()
        """How much later than predicted this device answers."""
        self.hedge_budget = hedge_budget
        self._ask_local = ask_of(local)
        self._ask_cloud: Mapping[bool, Ask] = {}
        """By whether the request may run twice; empty without a gateway."""
        if upstream is not None:
            self._ask_cloud = {may: ask_in_task(partial(upstream.infer, is_idempotent=may)) for may in (True, False)}
        self._drill = drill

    def ask_edge(self, request: InferenceRequest, predicted_s: float | None, answer: Answer) -> Withdraw:
        """One local run, whose time is remembered; see `runtime.serving.asking.Ask`."""
        started = time.monotonic()
        pace = self.local_paces.of(request.model)
        pace.note_asked(started)
        self.counts.asked[ServedBy.EDGE] += 1
        is_over = False

        def told(response: InferenceResponse | None, error: BaseException | None) -> None:
            nonlocal is_over
            is_over = True
            now = time.monotonic()
            if error is None:
                pace.note_answer(max(now - started - (predicted_s or 0.0), 0.0), 0.0, now)
            elif isinstance(error, DeadlineExceededError):
                pace.note_silence(now - started, now)
            answer(response, error)

        try:
            stall_s = 0.0 if self._drill is None else self._drill.check()
            ask = stalled(self._ask_local, stall_s) if stall_s else self._ask_local
            withdraw = ask(request, told)
        except DeadlineExceededError:
            now = time.monotonic()
            pace.note_silence(now - started, now)
            raise

        def let_go() -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            now = time.monotonic()
            pace.note_silence(now - started, now)
            withdraw()

        return let_go

    def ask_cloud(self, request: InferenceRequest, answer: Answer, *, is_idempotent: bool) -> Withdraw:
        """One inference of the gateway; see `runtime.serving.asking.Ask`."""
        assert self._ask_cloud, "routing plans no cloud step without a gateway"
        self.counts.asked[ServedBy.CLOUD] += 1
        return self._ask_cloud[is_idempotent](for_the_cloud(request), answer)

    def note_hedge(self, what: Hedge) -> None:
        """A hedge was sent, has won, or was held back."""
        self.counts.hedges[what] += 1
        if what is Hedge.SENT:
            self.hedge_budget.take()

"""Calls to both arms: made, timed, counted and withdrawn. What the carrying out of a course needs, and nothing that decides."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from edge_agent.budget import TokenBucket
from edge_agent.counts import Counts, Hedge
from edge_agent.drill import Drill
from edge_agent.pace import Paces
from edge_agent.request_options import for_the_cloud
from edge_agent.states import CloudState
from runtime.errors import DeadlineExceededError, EdgewardError
from runtime.serving.service import InferenceService
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, ServedBy

log = logging.getLogger(__name__)


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


class Calls:
    """Both arms. Used on one event loop."""

    def __init__(
        self, local: Local, upstream: Upstream | None, hedge_budget: TokenBucket, drill: Drill | None = None
    ) -> None:
        self.counts = Counts()
        self.local_paces = Paces()
        """How much later than predicted this device answers."""
        self.hedge_budget = hedge_budget
        self._local = local
        self._upstream = upstream
        self._drill = drill
        self._withdrawn: set[asyncio.Task[InferenceResponse]] = set()

    async def ask_edge(self, request: InferenceRequest, predicted_s: float | None) -> InferenceResponse:
        """One local run, whose time is remembered."""
        started = time.monotonic()
        pace = self.local_paces.of(request.model)
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
        """One inference of the gateway."""
        assert self._upstream is not None, "routing plans no cloud step without a gateway"
        self.counts.asked[ServedBy.CLOUD] += 1
        return await self._upstream.infer(for_the_cloud(request), is_idempotent=is_idempotent)

    def note_hedge(self, what: Hedge) -> None:
        """A hedge was sent, has won, or was held back."""
        self.counts.hedges[what] += 1
        if what is Hedge.SENT:
            self.hedge_budget.take()

    def let_go(self, task: asyncio.Task[InferenceResponse]) -> None:
        """Cancels a call that nobody waits for any more, and sees it end."""
        if not task.done():
            self._withdrawn.add(task)
            task.add_done_callback(self._withdrawn.discard)
        task.add_done_callback(_look_at)
        task.cancel()


def _look_at(task: asyncio.Task[InferenceResponse]) -> None:
    """Takes note of how a withdrawn call ended: nobody else will, and asyncio would complain."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, EdgewardError):
        log.error("a withdrawn call failed in an unforeseen way", exc_info=error)

"""The gateway as the agent sees it: a client behind a circuit breaker, with a memory of how long answers took.

gRPC reconnects by itself; the breaker says whether it is worth asking, and `watch` finds out when it is again, so that no
request has to be the guinea pig.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from edge_agent.breaker import Breaker, BreakerSettings, BreakerState, Outcome, Permission
from edge_agent.latency import LatencyWindow
from edge_agent.states import CloudState
from runtime.client.address import Protocol, parse_address
from runtime.client.aio import AsyncClient
from runtime.errors import (
    CancelledError,
    DeadlineExceededError,
    EdgewardError,
    PeerFailedError,
    PeerUnreachableError,
    UnauthenticatedError,
)
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription

log = logging.getLogger(__name__)

T = TypeVar("T")

# What a deadline is held against: a time that most answers keep.
PREDICTED_QUANTILE: Final = 0.95
# Fewer answers predict nothing: the first one pays for the connection, and one lost answer must not rule the cloud out.
MIN_ANSWERS: Final = 5
# A caller in a hurry says nothing about the link: a timeout shorter than a slow mobile round trip is no failure of it.
FAIR_WAIT_S: Final = 0.25
# Probes and questions about models are answered from memory; two slow mobile round trips and some more.
METADATA_TIMEOUT_S: Final = 2.0
# While the one probe of somebody else is under way.
PROBE_RETRY_S: Final = 0.05


class Gateway:
    """One gateway. Lives on one event loop; raises errors of `runtime.errors` only. Connects at the first call."""

    def __init__(
        self,
        address: str,
        api_key: str | None = None,
        breaker: BreakerSettings = BreakerSettings(),  # noqa: B008  (frozen)
        ca_file: Path | None = None,
    ) -> None:
        self.address = parse_address(address, Protocol.GRPC)
        self._api_key = api_key
        self._ca_file = ca_file
        self._breaker = Breaker(breaker, random.random)
        self._latency = LatencyWindow()
        self._client: AsyncClient | None = None
        self._trouble = asyncio.Event()
        self._last_error: tuple[float, str] | None = None

    def state(self, now: float) -> CloudState:
        """What routing may know; costs no network."""
        verdict = self._breaker.verdict(now)
        detail = "" if verdict.is_permitted else self._told(verdict.reason)
        return CloudState(True, verdict.is_permitted, self._predicted_s(now), detail)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """One inference there, within the request's deadline."""
        started = time.monotonic()
        left_s = None if request.deadline is None else request.deadline - started
        try:
            response = await self._call(lambda client: client.infer(request, timeout_s=left_s))
        except DeadlineExceededError:
            # It would have taken at least this long.
            self._latency.add(time.monotonic() - started, time.monotonic())
            raise
        self._latency.add(time.monotonic() - started, time.monotonic())
        return response

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """A model's signature there."""
        description = await self._call(lambda client: client.model(name, version, timeout_s=METADATA_TIMEOUT_S))
        return replace(description, parameters={**description.parameters, "served_by": "cloud"})

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether it would answer for the model; False when it cannot be asked."""
        try:
            return await self._call(lambda client: client.is_model_ready(name, version, timeout_s=METADATA_TIMEOUT_S))
        except EdgewardError:
            return False

    async def probe(self) -> EdgewardError | None:
        """Asks whether the gateway takes requests; None: it does."""
        try:
            await self._call(self._ask_ready)
        except EdgewardError as error:
            return error
        return None

    async def watch(self) -> None:
        """Probes once, and again whenever the breaker's time is up, until it has closed. Runs until cancelled."""
        error = await self.probe()
        if error is not None:
            log.warning("the gateway does not answer, so this device answers alone until it does: %s", error)
        while True:
            await self._trouble.wait()
            verdict = self._breaker.verdict(time.monotonic())
            if verdict.state is BreakerState.CLOSED:
                self._trouble.clear()
                continue
            await asyncio.sleep(max(verdict.retry_in_s, PROBE_RETRY_S))
            await self.probe()

    async def describe(self) -> dict[str, object]:
        """For `agent status`: asks the gateway now, and says what the link was like lately."""
        error = await self.probe()
        now = time.monotonic()
        verdict = self._breaker.verdict(now)
        p50, p95 = (self._latency.quantile(q, now) for q in (0.5, 0.95))
        last = self._last_error
        return {
            "address": str(self.address),
            "is_reachable": error is None,
            "probe_error": None if error is None else str(error),
            "breaker": str(verdict.state),
            "breaker_reason": verdict.reason,
            "recent_answers": self._latency.count(now),
            "p50_ms": None if p50 is None else round(p50 * 1e3, 3),
            "p95_ms": None if p95 is None else round(p95 * 1e3, 3),
            "last_error": None if last is None else last[1],
            "last_error_age_s": None if last is None else round(now - last[0], 1),
        }

    async def close(self) -> None:
        """Closes the connection."""
        if self._client is not None:
            await self._client.close()

    async def _call(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """One call with the breaker's leave, whose outcome the breaker learns."""
        started = time.monotonic()
        permission = self._breaker.begin(started)
        if permission is None:
            raise PeerUnreachableError(self._told(self._breaker.verdict(started).reason))
        if self._client is None:
            self._client = AsyncClient(str(self.address), api_key=self._api_key, ca_file=self._ca_file)
        outcome = Outcome.UNKNOWN
        try:
            answer = await ask(self._client)
            outcome = Outcome.SUCCESS
            return answer
        except EdgewardError as error:
            now = time.monotonic()
            outcome = outcome_of(error, now - started)
            is_our_key = isinstance(error, UnauthenticatedError)
            if outcome is Outcome.FAILURE or is_our_key:
                self._last_error = (now, str(error))
            if is_our_key:
                # Whoever asked us is not to blame for our key.
                raise PeerFailedError(f"the gateway refuses this agent's API key ({error}); give it another") from error
            raise
        finally:
            self._end(permission, outcome)

    def _end(self, permission: Permission, outcome: Outcome) -> None:
        now = time.monotonic()
        before = self._breaker.verdict(now).state
        self._breaker.end(permission, outcome, now)
        after = self._breaker.verdict(now).state
        if after is not BreakerState.CLOSED:
            self._trouble.set()
            if before is BreakerState.CLOSED:
                log.warning(
                    "gateway %s: the breaker opens (%s)", self.address, self._last_error and self._last_error[1]
                )
        elif before is not BreakerState.CLOSED:
            # What was measured before the outage says nothing about the link after it.
            self._latency.clear()
            log.warning("gateway %s answers again: the breaker closes", self.address)

    async def _ask_ready(self, client: AsyncClient) -> None:
        if not await client.is_ready(timeout_s=METADATA_TIMEOUT_S):
            raise PeerUnreachableError(f"{self.address} answers that it is not ready for requests")

    def _predicted_s(self, now: float) -> float | None:
        if self._latency.count(now) < MIN_ANSWERS:
            return None
        return self._latency.quantile(PREDICTED_QUANTILE, now)

    def _told(self, reason: str) -> str:
        last = f"; last: {self._last_error[1]}" if self._last_error is not None else ""
        return f"gateway {self.address}: {reason}{last}"


def outcome_of(error: EdgewardError, waited_s: float) -> Outcome:
    """What an error says about the link: only silence and unavailability count against it."""
    if isinstance(error, PeerUnreachableError):
        return Outcome.FAILURE
    if isinstance(error, DeadlineExceededError):
        return Outcome.FAILURE if waited_s >= FAIR_WAIT_S else Outcome.UNKNOWN
    return Outcome.UNKNOWN if isinstance(error, CancelledError) else Outcome.SUCCESS

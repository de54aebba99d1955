"""The gateway as the agent sees it: a client behind a circuit breaker, with a memory of how long answers took.

The breaker says whether it is worth asking, and `watch` finds out when it is again, so that no request has to be the guinea pig.
Silence is not held against the link at once: a deadline may have been short, or the model slow. It makes `watch` ask whether the
gateway is there at all; only when that is not answered either, the silences count.
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
from edge_agent.pace import Paces
from edge_agent.states import CloudState
from runtime.client.address import Protocol, parse_address
from runtime.client.aio import AsyncClient
from runtime.errors import (
    CallerError,
    CancelledError,
    DeadlineExceededError,
    EdgewardError,
    PeerFailedError,
    PeerUnreachableError,
    UnauthenticatedError,
)
from runtime.serving.timing import TIMING
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, Parameters

log = logging.getLogger(__name__)

T = TypeVar("T")

# Whoever waited less in vain has learnt nothing: a slow mobile round trip takes as long.
FAIR_WAIT_S: Final = 0.25
# Whether the gateway takes requests is answered from memory; two slow mobile round trips and some more.
METADATA_TIMEOUT_S: Final = 2.0
# The same question after a silence: the answer decides over requests that come meanwhile.
SUSPICION_TIMEOUT_S: Final = 1.0
# Silences that wait for their verdict; more of them say nothing more.
MAX_SUSPECTS: Final = 16
# While the one probe of somebody else is under way.
PROBE_RETRY_S: Final = 0.05
# A connection that was given up may still bring answers under way; longer than that nobody waits for them.
RETIRED_AFTER_S: Final = 5.0


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
        self._paces = Paces()
        self._outcomes = LatencyWindow()
        self._client: AsyncClient | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._suspects: list[Permission] = []
        self._trouble = asyncio.Event()
        self._last_error: tuple[float, str] | None = None
        self.in_flight = 0
        """Calls that wait for an answer."""

    def state(self, now: float, model: str = "") -> CloudState:
        """What routing may know for requests to `model`; costs no network."""
        verdict = self._breaker.verdict(now)
        detail = "" if verdict.is_permitted else self._told(verdict.reason)
        pace = self._paces.of(model).read(now)
        return CloudState(
            is_configured=True,
            is_permitted=verdict.is_permitted,
            predicted_s=pace.predicted_s,
            detail=detail,
            typical_s=pace.typical_s,
            unasked_s=pace.unasked_s,
            floor_s=pace.floor_s,
        )

    def is_permitted(self, now: float) -> bool:
        """Whether the breaker lets a request through."""
        return self._breaker.verdict(now).is_permitted

    def failure_share(self, now: float) -> tuple[int, float]:
        """How many requests ended lately, and the share of them that this gateway is to blame for."""
        count = self._outcomes.count(now)
        return count, (self._outcomes.total(now) / count if count else 0.0)

    def forget(self) -> None:
        """Drops what was measured: the link, or the gateway, may be another than it was."""
        self._paces.clear()
        self._outcomes.clear()

    @property
    def breaker_state(self) -> BreakerState:
        """Where the breaker stands now."""
        return self._breaker.verdict(time.monotonic()).state

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """One inference there, within the request's deadline; asks where its time went, and keeps that to itself."""
        is_timing_ours = TIMING not in request.parameters
        if is_timing_ours:
            request = replace(request, parameters={**request.parameters, TIMING: True})
        started = time.monotonic()
        left_s = None if request.deadline is None else request.deadline - started
        pace = self._paces.of(request.model)
        pace.note_asked(started)
        try:
            response = await self._call(lambda client: client.infer(request, timeout_s=left_s))
        except (DeadlineExceededError, asyncio.CancelledError):
            # It would have taken at least this long.
            now = time.monotonic()
            pace.note_silence(now - started, now)
            raise
        except EdgewardError as error:
            if not isinstance(error, CallerError | CancelledError):
                self._outcomes.add(1.0, time.monotonic())
            raise
        now = time.monotonic()
        self._outcomes.add(0.0, now)
        work_s = served_in_s(response.parameters)
        pace.note_answer(max(now - started - work_s, 0.0), work_s, now)
        return without_timing(response) if is_timing_ours else response

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

    async def probe(self, timeout_s: float = METADATA_TIMEOUT_S) -> EdgewardError | None:
        """Asks whether the gateway takes requests; None: it does."""
        try:
            await self._call(lambda client: self._ask_ready(client, timeout_s), is_probe=True)
        except EdgewardError as error:
            return error
        return None

    async def watch(self) -> None:
        """Probes once, after every silence, and whenever the breaker's time is up until it has closed. Runs until cancelled."""
        error = await self.probe()
        if isinstance(error, PeerUnreachableError | DeadlineExceededError):
            if self._breaker.verdict(time.monotonic()).state is BreakerState.CLOSED:
                self._breaker.trip(time.monotonic())
                self._note_opened()
        elif error is not None:
            log.warning("gateway %s is not ready: %s", self.address, error)
        while True:
            await self._trouble.wait()
            verdict = self._breaker.verdict(time.monotonic())
            if verdict.state is BreakerState.CLOSED:
                self._trouble.clear()
                if self._suspects:
                    await self._try_suspects()
                continue
            await asyncio.sleep(max(verdict.retry_in_s, PROBE_RETRY_S))
            # A fresh connection: the old one may wait for the kernel to send again, or for gRPC's own patience.
            self._renew()
            await self.probe()

    async def describe(self) -> dict[str, object]:
        """For `agent status`: asks the gateway now, and says what the link was like lately."""
        error = await self.probe()
        now = time.monotonic()
        verdict = self._breaker.verdict(now)
        paces = {model: pace for model, pace in self._paces.items() if pace.count(now)}
        busiest = max(paces.values(), key=lambda pace: pace.count(now), default=None)
        usual = None if busiest is None else busiest.read(now)
        p50, p95 = (None, None) if usual is None else (usual.typical_s, usual.predicted_s)
        last = self._last_error
        return {
            "address": str(self.address),
            "is_reachable": error is None,
            "probe_error": None if error is None else str(error),
            "breaker": str(verdict.state),
            "breaker_reason": verdict.reason,
            "recent_answers": sum(pace.count(now) for pace in paces.values()),
            "p50_ms": None if p50 is None else round(p50 * 1e3, 3),
            "p95_ms": None if p95 is None else round(p95 * 1e3, 3),
            "models": {model: pace.describe(now) for model, pace in paces.items()},
            "last_error": None if last is None else last[1],
            "last_error_age_s": None if last is None else round(now - last[0], 1),
        }

    async def close(self) -> None:
        """Closes the connection."""
        retired = list(self._retired)
        for task in retired:
            task.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _call(self, ask: Callable[[AsyncClient], Awaitable[T]], *, is_probe: bool = False) -> T:
        """One call with the breaker's leave, whose outcome the breaker learns."""
        started = time.monotonic()
        permission = self._breaker.begin(started)
        if permission is None:
            raise PeerUnreachableError(self._told(self._breaker.verdict(started).reason))
        if self._client is None:
            self._client = AsyncClient(str(self.address), api_key=self._api_key, ca_file=self._ca_file)
        outcome = Outcome.UNKNOWN
        self.in_flight += 1
        try:
            answer = await ask(self._client)
            outcome = Outcome.SUCCESS
            return answer
        except asyncio.CancelledError:
            outcome = Outcome.SILENCE if time.monotonic() - started >= FAIR_WAIT_S else Outcome.UNKNOWN
            raise
        except EdgewardError as error:
            now = time.monotonic()
            outcome = outcome_of(error, now - started)
            is_our_key = isinstance(error, UnauthenticatedError)
            if outcome in (Outcome.FAILURE, Outcome.SILENCE) or is_our_key:
                self._last_error = (now, str(error))
            if is_our_key:
                # Whoever asked us is not to blame for our key.
                raise PeerFailedError(f"the gateway refuses this agent's API key ({error}); give it another") from error
            raise
        finally:
            self.in_flight -= 1
            self._conclude(permission, outcome, is_probe=is_probe)

    def _conclude(self, permission: Permission, outcome: Outcome, *, is_probe: bool) -> None:
        """Tells the breaker, or keeps a silence until the gateway was asked whether it is there."""
        if outcome is Outcome.SILENCE:
            if is_probe or permission.is_probe:
                outcome = Outcome.FAILURE
            else:
                if len(self._suspects) < MAX_SUSPECTS:
                    self._suspects.append(permission)
                self._trouble.set()
                return
        self._end(permission, outcome)

    async def _try_suspects(self) -> None:
        """Asks whether the gateway is there. When it is not, the breaker opens; when it is, they say nothing of the link."""
        error = await self.probe(SUSPICION_TIMEOUT_S)
        suspects, self._suspects = self._suspects, []
        for permission in suspects:
            self._end(permission, Outcome.UNKNOWN)
        if error is not None and self._breaker.verdict(time.monotonic()).state is BreakerState.CLOSED:
            self._breaker.trip(time.monotonic())
            self._note_opened()

    def _renew(self) -> None:
        """Has the next call make a connection of its own; the old one is closed once its answers are not waited for."""
        client, self._client = self._client, None
        if client is not None:
            task = asyncio.create_task(_retire(client))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    def _end(self, permission: Permission, outcome: Outcome) -> None:
        now = time.monotonic()
        before = self._breaker.verdict(now).state
        self._breaker.end(permission, outcome, now)
        after = self._breaker.verdict(now).state
        if after is not BreakerState.CLOSED:
            self._trouble.set()
            if before is BreakerState.CLOSED:
                self._note_opened()
        elif before is not BreakerState.CLOSED:
            # What was measured before the outage says nothing about the link after it.
            self.forget()
            self._suspects.clear()
            log.warning("gateway %s answers again: the breaker closes", self.address)

    def _note_opened(self) -> None:
        self._trouble.set()
        log.warning("gateway %s: the breaker opens (%s)", self.address, self._last_error and self._last_error[1])

    async def _ask_ready(self, client: AsyncClient, timeout_s: float) -> None:
        if not await client.is_ready(timeout_s=timeout_s):
            raise PeerUnreachableError(f"{self.address} answers that it is not ready for requests")

    def _told(self, reason: str) -> str:
        last = f"; last: {self._last_error[1]}" if self._last_error is not None else ""
        return f"gateway {self.address}: {reason}{last}"


def outcome_of(error: EdgewardError, waited_s: float) -> Outcome:
    """What an error says about the link: only unavailability counts against it at once, silence on suspicion."""
    if isinstance(error, PeerUnreachableError):
        return Outcome.FAILURE
    if isinstance(error, DeadlineExceededError):
        return Outcome.SILENCE if waited_s >= FAIR_WAIT_S else Outcome.UNKNOWN
    return Outcome.UNKNOWN if isinstance(error, CancelledError) else Outcome.SUCCESS


def served_in_s(said: Parameters) -> float:
    """How long a reply says that it was in queue and model; 0 where the server does not tell."""
    parts = [said.get(name) for name in _TIMES]
    return sum(part for part in parts if isinstance(part, int) and not isinstance(part, bool)) / 1e9


def without_timing(response: InferenceResponse) -> InferenceResponse:
    """The reply without what only we had asked for."""
    said = {name: value for name, value in response.parameters.items() if name not in _TIMING_PARAMETERS}
    return replace(response, parameters=said)


async def _retire(client: AsyncClient) -> None:
    try:
        await asyncio.sleep(RETIRED_AFTER_S)
    finally:
        await client.close()


_TIMES: Final = ("queue_ns", "batch_ns", "execute_ns")
_TIMING_PARAMETERS: Final = frozenset({*_TIMES, "batch_rows"})

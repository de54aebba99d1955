"""A circuit breaker: stops asking an upstream that does not answer, and finds out when it does again. Pure.

    closed ──failures──▶ open ──its time is up──▶ half-open ──the probe succeeds──▶ closed
                           ▲──────────────the probe fails──────────┘

Only what says that the link or the server is down counts as a failure; a caller's error is a success of the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Outcome(StrEnum):
    """How a call that was let through ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    SILENCE = "silence"
    """No answer in the time it was given: a failure only when the gateway does not answer a simple question either."""
    UNKNOWN = "unknown"
    """Withdrawn before it could show either."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When the breaker opens, and for how long. Times in seconds."""

    window_s: float = 10.0
    failures_to_open: int = 3
    """In the window: one lost packet is no outage, and three attempts are soon made."""
    failure_share: float = 0.5
    """Of the answers in the window: on a busy link three failures among hundreds are no outage either."""
    in_a_row_to_open: int = 10
    """But so many without a success between them are, whatever was before: ten busy seconds would hide an outage for ten more."""
    open_s: float = 0.5
    open_growth: float = 2.0
    open_cap_s: float = 2.5
    """Normal service within 5 s after an outage heals: 2 s more may pass until gRPC connects again."""
    jitter: float = 0.5
    """The open time is drawn from (1 - jitter) to 1 of it: devices cut off together shall not come back together."""


@dataclass(frozen=True, slots=True)
class Permission:
    """Leave to make one call; handed back with its outcome."""

    round: int
    """How often the state had changed: what was begun in another state says nothing about this one."""
    is_probe: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may be made now, and why."""

    is_permitted: bool
    state: BreakerState
    reason: str
    retry_in_s: float = 0.0
    """0 unless open."""


class Breaker:
    """One breaker for one upstream; used from one thread. `random` gives numbers in [0, 1)."""

    def __init__(self, settings: BreakerSettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._round = 0
        self._is_open = False
        self._opened_times = 0
        self._open_until = 0.0
        self._is_probing = False
        self._failed_in_a_row = 0
        self._buckets: deque[_Bucket] = deque()

    def verdict(self, now: float) -> Verdict:
        """Whether `begin` would give leave; changes nothing."""
        if not self._is_open:
            return Verdict(True, BreakerState.CLOSED, "the breaker is closed")
        if now < self._open_until:
            wait_s = self._open_until - now
            return Verdict(False, BreakerState.OPEN, f"the breaker is open for another {wait_s:.2f} s", wait_s)
        if self._is_probing:
            return Verdict(False, BreakerState.HALF_OPEN, "the breaker is half-open and its one probe is under way")
        return Verdict(True, BreakerState.HALF_OPEN, "the breaker is half-open: this call is its probe")

    def begin(self, now: float) -> Permission | None:
        """Leave for one call, to be handed back to `end` whatever becomes of it; None while calls are refused."""
        verdict = self.verdict(now)
        if not verdict.is_permitted:
            return None
        self._is_probing = verdict.state is BreakerState.HALF_OPEN
        return Permission(self._round, self._is_probing)

    def end(self, permission: Permission, outcome: Outcome, now: float) -> None:
        """Takes the outcome of a permitted call. What was begun before the state last changed no longer counts."""
        if permission.round != self._round:
            return
        if permission.is_probe:
            self._is_probing = False
            if outcome is Outcome.SUCCESS:
                self._close()
            elif outcome is Outcome.FAILURE:
                self._open(now)
        elif outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            self._count(outcome, now)
            if outcome is Outcome.FAILURE and self._has_failed_enough():
                self._open(now)

    def trip(self, now: float) -> None:
        """Opens a closed breaker at once: for whoever has asked the upstream whether it is there, and it was not."""
        if not self._is_open:
            self._open(now)

    def _open(self, now: float) -> None:
        grown_s = self._settings.open_s * self._settings.open_growth**self._opened_times
        open_s = min(grown_s, self._settings.open_cap_s) * (1 - self._settings.jitter * self._random())
        self._is_open, self._open_until = True, now + open_s
        # Growth stops where the cap is reached; counting on would overflow the power after a thousand probes.
        self._opened_times += grown_s < self._settings.open_cap_s
        self._round += 1

    def _close(self) -> None:
        self._is_open, self._opened_times, self._failed_in_a_row = False, 0, 0
        self._buckets.clear()
        self._round += 1

    def _count(self, outcome: Outcome, now: float) -> None:
        # Ten buckets: memory stays bounded at any rate of calls, for a window that is right to a tenth.
        bucket_s = self._settings.window_s / 10
        slot = int(now / bucket_s)
        if not self._buckets or self._buckets[-1].slot != slot:
            self._buckets.append(_Bucket(slot))
        while self._buckets[0].slot <= slot - 10:
            self._buckets.popleft()
        if outcome is Outcome.SUCCESS:
            self._buckets[-1].successes += 1
            self._failed_in_a_row = 0
        else:
            self._buckets[-1].failures += 1
            self._failed_in_a_row += 1

    def _has_failed_enough(self) -> bool:
        failures = sum(bucket.failures for bucket in self._buckets)
        total = failures + sum(bucket.successes for bucket in self._buckets)
        has_share = failures >= self._settings.failure_share * total
        has_run = self._failed_in_a_row >= self._settings.in_a_row_to_open
        return failures >= self._settings.failures_to_open and (has_share or has_run)


@dataclass(slots=True)
class _Bucket:
    slot: int
    successes: int = 0
    failures: int = 0

"""Time that a call has left, and what went wrong with it: errors of `runtime.errors` that name the peer."""

from __future__ import annotations

import time

from runtime.client.address import Address
from runtime.errors import DeadlineExceededError, EdgewardError, PeerUnreachableError, WrongUseError


def time_left(timeout_s: float, deadline: float | None, now: float) -> float:
    """Seconds that a call may take; `DeadlineExceededError` when there are none."""
    left = timeout_s if deadline is None else min(timeout_s, deadline - now)
    if left <= 0:
        raise DeadlineExceededError(f"the deadline passed {-left * 1000:.0f} ms before the request could be sent")
    return left


def check_in_time(address: Address, timeout_s: float, began: float) -> None:
    """`DeadlineExceededError` where an answer that is here now came later than asked; `began` as `time.monotonic` told it.

    gRPC rounds deadlines up to whole milliseconds.
    """
    if time.monotonic() - began > timeout_s:
        raise too_late(address, timeout_s)


def unreachable(address: Address, reason: object) -> PeerUnreachableError:
    """No connection could be made, or it broke, or the server says itself that it is not available."""
    return PeerUnreachableError(
        f"{address} is unreachable: {reason}; check the address, and that a server listens there and is ready"
    )


def with_next_step(error: PeerUnreachableError, step: str) -> PeerUnreachableError:
    """The same failure, ending in what whoever knows the program should do next."""
    return PeerUnreachableError(f"{str(error).partition(';')[0]}; {step}")


def too_late(address: Address, timeout_s: float) -> DeadlineExceededError:
    """The answer did not come in time."""
    return DeadlineExceededError(
        f"no answer from {address} within {timeout_s:.3g} s; give a longer timeout_s, or see whether the server is busy"
    )


def closed(address: Address) -> WrongUseError:
    """A call on a client after `close`."""
    return WrongUseError(f"this client of {address} is closed; connect again")


def said_by(address: Address, error: EdgewardError) -> EdgewardError:
    """The same error, its text led by whose it is."""
    error.args = (f"{address}: {error}",)
    return error

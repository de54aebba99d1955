"""Which of the gateways on one database leads: pure, by each one's own clock alone.

Whoever leads raises a counter every `BEAT_S`. Another takes over once it has seen the counter stand still for `LEASE_S` of its own
monotonic time: wall clocks, which jump and differ between machines, have no say. Whoever leads believes it only for `TRUST_S` after
its last beat, and every change that it writes checks the lease in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BEAT_S: Final = 1.0
LEASE_S: Final = 5.0
TRUST_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """The lease as the database has it."""

    holder: str
    """Empty: given back."""
    beat: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The lease as it was last seen, and since when it is so."""

    row: LeaseRow | None
    since: float


class Claim(StrEnum):
    """What to do about the lease."""

    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


def claim(me: str, row: LeaseRow | None, seen: Seen | None, now: float) -> tuple[Claim, Seen]:
    """What gateway `me` does on finding `row`; the second value is what to bring next time. `now`: monotonic seconds."""
    latest = seen if seen is not None and seen.row == row else Seen(row, now)
    if row is None or not row.holder:
        return Claim.TAKE, latest
    if row.holder == me:
        return Claim.RENEW, latest
    if now - latest.since >= LEASE_S:
        return Claim.TAKE, latest
    return Claim.WAIT, latest

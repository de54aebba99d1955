"""Which gateways run releases now, and up to which line of the log each has carried out what it says; pure, by one's own clock.

A gateway that runs a release says so at least once a second, in a row that it alone writes, and trusts the split that it has for
`FENCE_S` from when it began its last good look at the database; then it answers with stable until it can look again. So whoever
saw such a row change at `now` knows that its gateway is on an older split until `now + FENCE_S` at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Three beats. Shorter than a lease (`lease.LEASE_S`): a leader that was cut off answers with stable before another one leads.
FENCE_S: Final = 3.0
# A row that stood still for so long is of a gateway that was killed.
FORGET_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A gateway as the database has it."""

    name: str
    beat: int
    line: int
    """Of the audit log: all changes up to this one hold for its callers."""


class Roll:
    """The rows of the other gateways, and since when each is as it is. `now`: monotonic seconds of this process."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[GatewayRow, float]] = {}

    def see(self, rows: Sequence[GatewayRow], now: float) -> None:
        """Takes in all rows that there are."""
        before = self._seen
        self._seen = {
            row.name: (row, before[row.name][1] if row.name in before and before[row.name][0].beat == row.beat else now)
            for row in rows
        }

    def behind(self, line: int, now: float) -> list[str]:
        """Gateways whose callers may still be answered as before the change in `line`."""
        return sorted(row.name for row, since in self._seen.values() if row.line < line and now - since < FENCE_S)

    def fenced(self, line: int, now: float) -> list[str]:
        """Gateways that never said that they carried `line` out, and that answer with stable by now or are gone."""
        return sorted(
            row.name for row, since in self._seen.values() if row.line < line and FENCE_S <= now - since < FORGET_S
        )

    def gone(self, now: float) -> list[str]:
        """Gateways whose rows nobody needs any more."""
        return [row.name for row, since in self._seen.values() if now - since >= FORGET_S]

    @property
    def names(self) -> set[str]:
        """Everyone with a row."""
        return set(self._seen)

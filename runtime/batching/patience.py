"""How long a batch waits for requests that are on their way through the transport: until as many are there as came lately.

Clients that wait for their answers send again about as many at once. Transports hand requests over one or a few a turn of the
event loop, however many came together; a few turns later the others are there, and one run answers them all.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Turns in a row that brought nobody. Without work they cost about 1.5 µs each; on a busy loop they are work for requests that are
# on their way: over grpcio one passes through a dozen of them.
MOST_TURNS: Final = 24

# The most that met in so many gatherings are expected, so that one that ended early does not make the next ones small. Over grpcio
# at 8 and 32 connections 2.0 to 2.2 rows met where only the last one was believed and all turns were counted, 4.1 and 4.4 of 5 with
# this: rate 1.01 to 1.14 and 0.99 to 1.13, CPU a request 0.91 to 1.01 and 0.91 to 0.95; REST and the native front the same (medians
# of 16 to 25 interleaved pairs, 2-core x86-64 VM with others at work, November 2026).
REMEMBERED: Final = 4

# There may be more of them than lately: this often it is waited as if nobody knew.
LOOK_EVERY: Final = 32


class Patience:
    """Whether the batch that is being gathered waits another turn of the event loop."""

    def __init__(self) -> None:
        self._expected = 0
        """Requests; 0: nobody knows."""
        self._gathered = 0
        self._lately: deque[int] = deque(maxlen=REMEMBERED)
        self._seen = 0
        """Requests at the last turn of this gathering."""
        self._turns_alone = 0
        """Turns since the last newcomer."""

    def is_enough(self, waiting: int, turns: int) -> bool:
        """Whether `waiting` requests, gathered in so many turns, are not worth another turn. Asked at each turn from 0 on."""
        self._turns_alone = 0 if turns == 0 or waiting > self._seen else self._turns_alone + 1
        self._seen = waiting
        return self._turns_alone >= MOST_TURNS or 0 < self._expected <= waiting

    def learn(self, waiting: int) -> None:
        """Tells with how many requests the gathering ended."""
        self._gathered += 1
        self._lately.append(waiting)
        self._expected = 0 if self._gathered % LOOK_EVERY == 0 else max(self._lately)

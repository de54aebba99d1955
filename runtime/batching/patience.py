"""How long a batch waits for requests that are on their way through the transport: until as many are there as came last time.

Clients that wait for their answers send again about as many at once. Transports hand requests over one or a few a turn of the
event loop, however many came together; a few turns later the others are there, and one run answers them all.
"""

from __future__ import annotations

# Turns without work cost about 1.5 µs each. Eight clients on grpcio: batches of 1.1 requests without waiting, 2.4 with 8 turns, 4.0
# with 16, 6.5 with 32, 7.5 with 64; CPU per request 0.55, 0.41, 0.30, 0.31 and 0.28 ms (2-core x86-64 VM, November 2026).
MOST_TURNS = 64

# There may be more of them than last time: this often it is waited as if nobody knew.
LOOK_EVERY = 32


class Patience:
    """Whether the batch that is being gathered waits another turn of the event loop."""

    def __init__(self) -> None:
        self._expected = 0
        """Requests; 0: nobody knows."""
        self._gathered = 0

    def is_enough(self, waiting: int, turns: int) -> bool:
        """Whether `waiting` requests, gathered in so many turns, are not worth another turn."""
        return turns >= MOST_TURNS or 0 < self._expected <= waiting

    def learn(self, waiting: int) -> None:
        """Tells with how many requests the gathering ended."""
        self._gathered += 1
        self._expected = 0 if self._gathered % LOOK_EVERY == 0 else waiting

"""How long a batch waits for requests that are on their way through the transport: learnt from whether waiting paid.

grpcio's thread needs the GIL for every single request, so it hands them over one a turn of the event loop however many came at
once. A few turns later the others are there, and one run answers them all.
"""

from __future__ import annotations

# Turns without work cost about 1.5 µs each. Eight clients on grpcio: batches of 1.1 requests without waiting, 2.4 with 8 turns, 4.0
# with 16, 6.5 with 32, 7.5 with 64; CPU per request 0.55, 0.41, 0.30, 0.31 and 0.28 ms (2-core x86-64 VM, November 2026).
MOST_TURNS = 64

# One client alone gains nothing from waiting: this often it is tried again, in case it got company.
RETRY_EVERY = 32


class Patience:
    """Turns of the event loop that the next batch may wait for company."""

    def __init__(self) -> None:
        self._turns = MOST_TURNS
        self._flushes_without = 0

    def turns(self) -> int:
        """How many turns the batch that begins now may wait; 0: run at once."""
        if self._turns:
            return self._turns
        self._flushes_without += 1
        if self._flushes_without < RETRY_EVERY:
            return 0
        self._flushes_without = 0
        return MOST_TURNS

    def learn(self, waited_turns: int, gained: int) -> None:
        """Tells what came of it: the turns waited and the requests that arrived in them."""
        if gained:
            self._turns = MOST_TURNS
        elif waited_turns:
            self._turns //= 2

"""While one client sends its next request as soon as it has its answer, the event loop looks for that instead of sleeping.

A process that sleeps until its socket has something is woken by the kernel, on a virtual machine by way of the hypervisor: at one
connection that takes as long as our own share of a request. A client that is not that quick, or shares its core with others, is
not looked for in vain more than once in many answers; several at once keep the loop awake by themselves.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

# As long as a client on this machine takes to read an answer and send again; gRPC's take longer than REST's.
LOOK_S: Final = 200e-6

# Answers without a look after one that found nothing.
REST_ANSWERS: Final = 64


class Wakeful:
    """Told of each request and each answer, in order, on the event loop that answers them."""

    def __init__(self) -> None:
        self._came = 0
        """Requests since the last answer."""
        self._until: float | None = None
        """When the look that is under way ends; None: none is."""
        self._resting = 0
        """Answers until the next look."""

    def came(self) -> None:
        """A request is here: what was looked for, if anything was."""
        self._came += 1
        self._until = None

    def answered(self) -> None:
        """An answer has been sent; looks for the next request where this was of the only one."""
        is_lone, self._came = self._came == 1, 0
        if not is_lone or self._until is not None:
            return
        if self._resting:
            self._resting -= 1
            return
        self._until = time.monotonic() + LOOK_S
        self._look(asyncio.get_running_loop(), self._until)

    def _look(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        """Another turn of the loop, which does not sleep while one is due."""
        if self._until != until:
            return
        if time.monotonic() < until:
            loop.call_soon(self._look, loop, until)
        else:
            self._until = None
            self._resting = REST_ANSWERS

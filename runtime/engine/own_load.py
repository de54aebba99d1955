"""How long a call would have taken without what else this process did meanwhile, as far as it can be told. Pure but for its clocks.

A server that is asked more than it can answer slows its own calls: they share its cores and wait for the interpreter's lock.
Measuring again does not help against that, and would cost the machine's time when it has least. What other programs, heat or a
smaller share of the machine do to a call is not taken off.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from runtime.selection.candidates import CPU, Candidate

_PER_THREAD: Final = 6
"""CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED of Linux' posix-timers.h: what pthread_getcpuclockid(3) makes of a thread, here by its
number in the kernel, which answers EINVAL for one that has ended where the C library may crash."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What one call of a candidate takes while it runs. The same only as itself."""

    device: str
    units: int
    """Threads on the processor; 1 on any other device."""


def claim_of(candidate: Candidate) -> Claim:
    """What a call of `candidate` takes."""
    device = candidate.backend.device
    return Claim(device, candidate.options.threads if device == CPU else 1)


def _cpu_of_threads() -> dict[int, int]:
    """Nanoseconds on the processor of every other thread that runs Python, by its number; those of an engine are not among them.

    Empty off Linux, where nobody tells it of another thread.
    """
    if sys.platform != "linux":
        return {}
    own, told = threading.get_native_id(), {}
    for thread in threading.enumerate():
        number = thread.native_id
        if number is None or number == own:
            continue
        try:
            told[number] = time.clock_gettime_ns((~number << 3) | _PER_THREAD)
        except OSError:  # it has just ended
            continue
    return told


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is read before and after a call, in nanoseconds."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.thread_time_ns
    """The processor's time that the calling thread took."""
    others: Callable[[], Mapping[int, int]] = _cpu_of_threads
    """The same of other threads, by thread."""


@dataclass(frozen=True, slots=True)
class Began:
    """The clocks when a call began, and what others had claimed of its device."""

    wall_ns: int
    cpu_ns: int
    others_ns: Mapping[int, int]
    beside: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One call that has ended."""

    wall_ns: int
    cpu_ns: int
    """Of the calling thread."""
    others_ns: int
    """Of this process's other threads that run Python, meanwhile."""
    beside: float
    """Units that other calls had claimed of the same device, as a mean of its begin and its end."""


# One for every call under way in this process, whichever engine it is of. Lists grow and shrink atomically.
_UNDER_WAY: Final[list[Claim]] = []


enter: Final[Callable[[Claim], None]] = _UNDER_WAY.append
"""Notes a call before it runs."""
leave: Final[Callable[[Claim], None]] = _UNDER_WAY.remove
"""Notes its end."""


def begin(claim: Claim, clocks: Clocks) -> Began:
    """The clocks before a call that was noted."""
    others, beside = clocks.others(), _beside(claim)
    return Began(clocks.wall(), clocks.cpu(), others, beside)


def end(claim: Claim, began: Began, clocks: Clocks) -> Seen:
    """What passed since `began`, on the same thread, before the end is noted."""
    cpu_ns, wall_ns = clocks.cpu() - began.cpu_ns, clocks.wall() - began.wall_ns
    # One that came meanwhile counts from its start.
    others_ns = sum(max(now_ns - began.others_ns.get(at, 0), 0) for at, now_ns in clocks.others().items())
    return Seen(wall_ns, cpu_ns, others_ns, (began.beside + _beside(claim)) / 2)


def alone_ns(seen: Seen, claim: Claim, cores: int) -> float:
    """What the call would have taken alone on a machine that allows `cores` cores: never more than it took.

    Two things may have held it up, and the larger one is taken off. The calling thread waited (for a core, for the interpreter's
    lock) while other threads ran. And cores were shared: with `units` of it and `company` beside, on fewer cores than both want,
    it got its share of them. A device that is no processor does one thing at a time.
    """
    if seen.wall_ns <= 0:
        return 0.0
    waited_ns = min(max(seen.wall_ns - seen.cpu_ns, 0), seen.others_ns)
    is_cpu = claim.device == CPU
    company = max(seen.others_ns / seen.wall_ns, seen.beside) if is_cpu else seen.beside
    share = max(cores if is_cpu else 1, claim.units) / (claim.units + company)
    shared_ns = seen.wall_ns * (1 - min(1.0, share))
    return seen.wall_ns - max(waited_ns, shared_ns)


def _beside(claim: Claim) -> int:
    """What others have claimed of the same device."""
    return sum([other.units for other in _UNDER_WAY if other.device == claim.device]) - claim.units

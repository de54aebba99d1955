"""Where candidates run while they are tried and measured: the interface of a bench, and what it reports.

Two stand behind it: `LocalBench`, in this process, and `IsolatedBench`, which drives a `LocalBench` in another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from runtime.selection.candidates import Candidate
from runtime.selection.guard import GuardResult
from runtime.selection.memory_use import MemoryUse

WHOLE_S: Final = 2.0
"""For checking what is to be chosen, at most; a slow model is checked on fewer samples."""
MIN_GUARD_ROWS: Final = 64
"""Below that a check is called partial."""
LEAST_CHECKED_ROWS: Final = 16
"""Of what is to be chosen, whatever they take: what agrees in 70 % of all rows holds a floor of 90 % on so few once in 40 times."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a candidate's first run showed."""

    guard: GuardResult
    is_sampled: bool
    """Whether the bundle's samples were used; otherwise random rows."""
    memory: tuple[MemoryUse, ...]
    """While it was opened and run, by the rows of the largest call until then; ascending."""
    latencies: tuple[tuple[int, tuple[float, ...]], ...]
    """A few call times in milliseconds, by rows of the call: a first idea only."""
    batch_sizes: tuple[int, ...]
    """The numbers of rows that can be measured: (1,) for a model without a batch."""
    loading_s: float = 0.0
    """Of the time it took, what the engine's library, or the process, took to load."""
    effort_s: float = 0.0
    """Of the rest, what the candidate is to be charged with: on the processor no more than it had of it."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What the calls of one turn took, in milliseconds."""

    latencies_ms: tuple[float, ...]
    """Of each call; at least one."""
    busy_ms: float
    """A call, on average: of the processor, by all threads, those that spin included. On a device as long as the call lasts: so
    long it is taken."""


def mean_busy_ms(turns: Sequence[Timed]) -> float:
    """Of all calls: what a single turn took of another core is known by ticks of the kernel's only."""
    calls = sum(len(timed.latencies_ms) for timed in turns)
    return sum(timed.busy_ms * len(timed.latencies_ms) for timed in turns) / calls


class CandidateFailedError(Exception):
    """A candidate could not be run; the text is the reason. Internal to selection: it becomes a `Rejected`."""

    def __init__(self, reason: str, is_hang: bool = False) -> None:
        super().__init__(reason)
        self.is_hang = is_hang


class BenchUnavailableError(Exception):
    """The bench itself cannot be had (no process can be started); the text says why. Internal to selection."""


class Bench(Protocol):
    """Runs one candidate at a time. Not thread-safe."""

    def try_out(self, candidate: Candidate, reference: Candidate | None, rows: int, check_s: float) -> Trial:
        """The first run: opened, checked against samples or `reference`, timed a few times with 1 and with `rows` rows.

        Checked on a few rows, and on more while `check_s` lasts. `CandidateFailedError` when it cannot be opened or run.
        """

    def check(self, candidate: Candidate, reference: Candidate | None, within_s: float) -> GuardResult:
        """Its answers checked on at least `LEAST_CHECKED_ROWS`, and on more while `within_s` lasts; partial where that ended it.

        `CandidateFailedError` when it cannot be opened or run.
        """

    def time(self, candidate: Candidate, rows: int, duration_s: float) -> Timed:
        """Calls with `rows` rows, for about `duration_s` and at least one, after a warm-up.

        `CandidateFailedError` when it cannot be opened or run.
        """

    def close(self) -> None:
        """Closes every session."""

"""What was seen of a candidate that ran: all that a decision goes by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtime.selection.candidates import Candidate
from runtime.selection.cost import CostModel
from runtime.selection.guard import GuardResult
from runtime.selection.latency import Latency
from runtime.selection.memory_use import MemoryUse, use_at


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate that ran, and its numbers."""

    candidate: Candidate
    latencies: tuple[tuple[int, Latency], ...]
    """By rows of a call, ascending."""
    rows: int
    """The rows at which candidates are compared: 1, or a large batch for throughput."""
    guard: GuardResult
    memory: tuple[MemoryUse, ...] = ()
    """By rows of a call, ascending; empty when it is not known."""
    rounds: int = 0
    """Rounds of measuring it survived; 0 when the trial alone told it apart."""
    lag_error: float | None = None
    """The standard error of its lag behind the fastest, as a share, of those that took turns; None of who was timed alone."""
    busy: tuple[tuple[int, float], ...] = ()
    """By rows of a call, ascending: milliseconds that it keeps processors busy (`Timed.busy_ms`), of those that took turns."""

    @property
    def latency(self) -> Latency:
        """Of a call with `rows` rows."""
        return dict(self.latencies)[self.rows]

    @property
    def memory_mb(self) -> float | None:
        """Growth of resident memory with `rows` rows a call."""
        use = use_at(self.memory, self.rows)
        return None if use is None else use.mb

    @property
    def cost(self) -> CostModel:
        """Milliseconds by rows."""
        return CostModel(tuple((rows, latency.median_ms) for rows, latency in self.latencies))

    def with_latency(self, rows: int, latency: Latency) -> Measured:
        """The same with that of calls with so many rows."""
        return replace(self, latencies=tuple(sorted({**dict(self.latencies), rows: latency}.items())))

    def with_busy(self, rows: int, busy_ms: float) -> Measured:
        """The same with what calls with so many rows take of the processor."""
        return replace(self, busy=tuple(sorted({**dict(self.busy), rows: busy_ms}.items())))

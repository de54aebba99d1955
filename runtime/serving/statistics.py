"""What one model version has done: the running totals that its scheduler keeps, and the same as ModelStatistics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from runtime.telemetry.histogram import LATENCY_BOUNDS_NS, ROWS_BOUNDS, Histogram
from runtime.wire.statistics import BatchStatistics, ModelStatistics, Spent

Took = tuple[int, int, int]
"""Nanoseconds of joining a batch's inputs, of running the model, and of taking its outputs apart."""


# Values that wait to be sorted into buckets; a thousand take as long together as three one by one.
MAX_PENDING = 1024


def _latencies() -> Histogram:
    return Histogram(LATENCY_BOUNDS_NS)


@dataclass(slots=True)
class Latencies:
    """How the times of answered requests spread, in nanoseconds: of each request, the whole and the stages it is made of.

    The request path appends to lists; whoever reads calls `sorted_in` first. All on the event loop.
    """

    request: Histogram = field(default_factory=_latencies)
    queue: Histogram = field(default_factory=_latencies)
    batch: Histogram = field(default_factory=_latencies)
    execute: Histogram = field(default_factory=_latencies)
    batch_rows: Histogram = field(default_factory=lambda: Histogram(ROWS_BOUNDS))
    """Rows of each execution."""
    pending: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Of each request: the whole, queue, batch, execute."""
    pending_rows: list[int] = field(default_factory=list)

    def sorted_in(self) -> Latencies:
        """Itself, with what was pending in its buckets."""
        if self.pending:
            for histogram, values in zip(
                (self.request, self.queue, self.batch, self.execute), zip(*self.pending, strict=True), strict=True
            ):
                histogram.add_all(values)
            self.pending.clear()
        if self.pending_rows:
            self.batch_rows.add_all(self.pending_rows)
            self.pending_rows.clear()
        return self


@dataclass(slots=True)
class Statistics:
    """Running totals of one model version, in the sense of Triton's ModelStatistics; times in nanoseconds."""

    requests: int = 0
    """Answered with outputs; the sums below up to `rows` are theirs, each counted with the whole of its batch's time."""
    request_ns: int = 0
    queue_ns: int = 0
    compute: Took = (0, 0, 0)
    rows: int = 0
    failures: int = 0
    """Failed while they ran."""
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    failed_ns: int = 0
    """From arrival to the error, over failures and expired ones."""
    executions: int = 0
    last_unix_ms: int = 0
    batches: dict[int, tuple[int, Took]] = field(default_factory=dict)
    """Rows of a batch → how many such batches ran, and what they took."""
    latencies: Latencies | None = field(default_factory=Latencies)
    """None: not kept; the benchmark of what they cost compares with that."""

    def count_batch(self, rows: int, took: Took) -> None:
        """One call of the model, whatever came of it."""
        count, spent = self.batches.get(rows, (0, (0, 0, 0)))
        self.batches[rows] = (count + 1, (spent[0] + took[0], spent[1] + took[1], spent[2] + took[2]))
        self.executions += 1
        self.last_unix_ms = time.time_ns() // 1_000_000

    def count_answers(self, requests: int, rows: int, request_ns: int, queue_ns: int, took: Took) -> None:
        """The requests of a batch that were answered, and the sums of their rows, their times and their time in the queue."""
        self.requests += requests
        self.rows += rows
        self.request_ns += request_ns
        self.queue_ns += queue_ns
        into, run, out = self.compute
        self.compute = (into + requests * took[0], run + requests * took[1], out + requests * took[2])


def read_statistics(name: str, version: str, totals: Statistics) -> ModelStatistics:
    """What that version has done, in Triton's terms."""
    into, run, out = totals.compute
    return ModelStatistics(
        name=name,
        version=version,
        last_inference_unix_ms=totals.last_unix_ms,
        inference_count=totals.rows,
        execution_count=totals.executions,
        success=Spent(totals.requests, totals.request_ns),
        fail=Spent(totals.failures + totals.rejected + totals.expired, totals.failed_ns),
        queue=Spent(totals.requests, totals.queue_ns),
        compute_input=Spent(totals.requests, into),
        compute_infer=Spent(totals.requests, run),
        compute_output=Spent(totals.requests, out),
        batches=tuple(
            BatchStatistics(rows, Spent(count, took[0]), Spent(count, took[1]), Spent(count, took[2]))
            for rows, (count, took) in sorted(totals.batches.items())
        ),
        rejected=totals.rejected,
        expired=totals.expired,
        cancelled=totals.cancelled,
    )

"""A scheduler's running totals as ModelStatistics."""

from __future__ import annotations

from runtime.serving.scheduler import Statistics
from runtime.wire.statistics import BatchStatistics, ModelStatistics, Spent


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

"""What is made best among the ways to run a model that are right enough. Imports nothing: command lines name it."""

from __future__ import annotations

from enum import StrEnum


class Objective(StrEnum):
    """What is made best among the candidates that are right enough."""

    LATENCY = "latency"
    """Least median time of one row."""
    THROUGHPUT = "throughput"
    """Most rows a second in large batches."""
    MEMORY = "memory"
    """Least growth of resident memory."""
    EFFICIENCY = "efficiency"
    """Least processor time a row in batches, among those whose rows are about as fast as any; what servers choose by."""

"""What a batch costs before and after the model: the cut, joining 32 requests, taking their answers apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from runtime.batching.cut import BatchPolicy, cut
from runtime.batching.rows import batch_key, join, split

ROWS = 32
REQUESTS = [{"image": np.full((1, 1, 8, 8), number, np.float32)} for number in range(ROWS)]


@dataclass(slots=True)
class _Waiting:
    key: None = None
    rows: int = 1
    arrived: float = 0.0
    deadline: float | None = 10.0


QUEUE = [_Waiting() for _ in range(ROWS)]


def test_cut(benchmark: BenchmarkFixture) -> None:
    """Which of 32 waiting requests run together."""
    decision = benchmark(cut, QUEUE, 0.001, BatchPolicy(max_rows=ROWS), lambda rows: rows * 5e-5)
    assert len(decision.take) == ROWS


def test_key(benchmark: BenchmarkFixture) -> None:
    """With whom one request may share a batch."""
    assert benchmark(batch_key, REQUESTS[0]) == batch_key(REQUESTS[1])


def test_join(benchmark: BenchmarkFixture) -> None:
    """32 requests of one digit each."""
    assert benchmark(join, REQUESTS)["image"].shape == (ROWS, 1, 8, 8)


def test_split(benchmark: BenchmarkFixture) -> None:
    """The ten probabilities of each."""
    answers = benchmark(split, {"probabilities": np.zeros((ROWS, 10), np.float32)}, [1] * ROWS)
    assert answers is not None
    assert len(answers) == ROWS

"""What a model's statistics cost while it serves: one block of rows into the summary of a window."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.monitoring.speed import BLOCK_ROWS, Block, blocks
from runtime.monitoring.quantiles import has_sketches
from runtime.monitoring.summary import Summary


@pytest.fixture(scope="module")
def known() -> dict[str, Block]:
    """The blocks by name."""
    return blocks()


@pytest.mark.parametrize("use_sketches", [True, False], ids=["sketches", "histograms"])
@pytest.mark.parametrize("name", ["30 numbers", "10 categories", "images 8 x 8 and 10 scores"])
def test_update(benchmark: BenchmarkFixture, known: dict[str, Block], name: str, use_sketches: bool) -> None:
    """As the recorder's thread does it."""
    if use_sketches and not has_sketches():
        pytest.skip("datasketches is not installed (extra drift)")
    block = known[name]
    summary = Summary(block.baseline, use_sketches=use_sketches)
    benchmark(summary.update, block.fed, block.answered)
    assert summary.rows % BLOCK_ROWS == 0
    assert summary.rows > 0

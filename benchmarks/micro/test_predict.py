"""One row of digits in process: `Model.predict` beside a bare `session.run` of the same variant.

For the bar of 15 µs see `benchmarks.overhead`, which interleaves the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.overhead import BACKEND, bare_session
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.selection.rows import rows_for
from runtime.selection.settings import SelectionSettings
from runtime.tensors import Array


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    """Digits on ONNX Runtime, the variant and threads chosen for this machine."""
    with load("digits", EngineSettings(selection=SelectionSettings(backends=(BACKEND,)))) as opened:
        yield opened


@pytest.fixture(scope="module")
def row(model: Model) -> dict[str, Array]:
    """One held-out image."""
    return rows_for(model.bundle, model.inputs, seed=1).take(1)


@pytest.mark.benchmark(group="one row of digits")
def test_bare_session_run(benchmark: BenchmarkFixture, model: Model, row: dict[str, Array]) -> None:
    """What the engine itself takes."""
    outputs = benchmark(bare_session(model), row)
    assert len(outputs) == len(model.outputs)


@pytest.mark.benchmark(group="one row of digits")
def test_predict(benchmark: BenchmarkFixture, model: Model, row: dict[str, Array]) -> None:
    """With the check of the inputs, the hold and the mapping."""
    outputs = benchmark(model.predict, row)
    assert set(outputs) == {spec.name for spec in model.outputs}

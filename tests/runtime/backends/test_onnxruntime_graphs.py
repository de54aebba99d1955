"""CUDA graphs without CUDA: the real session and its real bindings, with the processor's memory for the device's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from runtime.backends.onnxruntime_graphs import MAX_GRAPHS, CudaGraphs
from runtime.bundle.manifest import Format

Oracle = Callable[[np.ndarray], np.ndarray]


class _Value(onnxruntime.OrtValue):  # type: ignore[misc]
    """On the processor what is asked for on the GPU; read, as there, by copying."""

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, device: str) -> Any:
        assert device == "cuda"
        return super().ortvalue_from_numpy(array.copy(), "cpu")

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: Sequence[int], dtype: np.dtype, device: str) -> Any:
        assert device == "cuda"
        return super().ortvalue_from_shape_and_type(shape, dtype, "cpu")

    def numpy(self) -> np.ndarray:
        copied: np.ndarray = super().numpy().copy()
        return copied


class _HostOrt:
    """The module, as far as it is used."""

    OrtValue = _Value
    RunOptions = onnxruntime.RunOptions


class _Counting:
    """A session that counts how it is called."""

    def __init__(self, file: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.io_binding = self._session.io_binding
        self.plain: list[str] = []
        self.bound: list[str] = []
        self.recordings = 1000

    def run(self, names: Sequence[str], inputs: Any, options: Any) -> Any:
        self.plain.append(options.get_run_config_entry("gpu_graph_id"))
        return self._session.run(names, inputs, options)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if len(self.bound) >= self.recordings:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
        self.bound.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(binding, options)


@pytest.fixture
def session(affine_file: Callable[[Format], Path]) -> _Counting:
    return _Counting(affine_file(Format.ONNX))


@pytest.fixture
def graphs(session: _Counting) -> CudaGraphs:
    return CudaGraphs(_HostOrt, session)  # type: ignore[arg-type]


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def test_a_shape_is_recorded_once_and_replayed_with_new_values(
    graphs: CudaGraphs, session: _Counting, affine: Oracle
) -> None:
    for seed in range(3):
        np.testing.assert_allclose(
            graphs.run(["y"], {"x": rows(2, seed)})[0], affine(rows(2, seed)), rtol=1e-5, atol=1e-6
        )
    assert session.plain == ["-1"]
    assert session.bound == ["1", "1", "1"], "recorded, then replayed twice"


def test_answers_stay_valid_after_the_next_call(graphs: CudaGraphs, affine: Oracle) -> None:
    answers = [graphs.run(["y"], {"x": rows(2, seed)})[0] for seed in range(4)]
    for seed, answer in enumerate(answers):
        np.testing.assert_allclose(answer, affine(rows(2, seed)), rtol=1e-5, atol=1e-6)


def test_no_more_shapes_than_the_bound_are_recorded(graphs: CudaGraphs, session: _Counting, affine: Oracle) -> None:
    for count in (*range(1, MAX_GRAPHS + 4), 1, MAX_GRAPHS + 1):
        np.testing.assert_allclose(graphs.run(["y"], {"x": rows(count)})[0], affine(rows(count)), rtol=1e-5, atol=1e-6)
    assert sorted(set(session.bound), key=int) == [str(n) for n in range(1, MAX_GRAPHS + 1)]
    assert session.plain == ["-1"] * (MAX_GRAPHS + 4)


def test_no_rows_are_not_recorded(graphs: CudaGraphs, session: _Counting) -> None:
    assert graphs.run(["y"], {"x": rows(0)})[0].shape == (0, 3)
    assert session.bound == []


def test_a_view_that_is_not_contiguous_is_read_right(graphs: CudaGraphs, affine: Oracle) -> None:
    wide = np.random.default_rng(5).normal(size=(2, 8)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(
            graphs.run(["y"], {"x": wide[:, ::2]})[0], affine(wide[:, ::2]), rtol=1e-5, atol=1e-6
        )


def test_a_model_that_cannot_be_recorded_at_all_is_refused(graphs: CudaGraphs, session: _Counting) -> None:
    session.recordings = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        graphs.run(["y"], {"x": rows(2)})


def test_a_later_shape_without_room_is_answered_all_the_same(
    graphs: CudaGraphs, session: _Counting, affine: Oracle, caplog: pytest.LogCaptureFixture
) -> None:
    session.recordings = 1
    for count in (2, 3, 3):
        np.testing.assert_allclose(graphs.run(["y"], {"x": rows(count)})[0], affine(rows(count)), rtol=1e-5, atol=1e-6)
    assert [record.message for record in caplog.records] == [
        "no further CUDA graph is recorded, other shapes run kernel by kernel: CUDA failure 2: out of memory ; GPU=0"
    ], "said once"
    session.recordings = 1000
    graphs.run(["y"], {"x": rows(2)})
    assert session.bound == ["1", "1"], "what was recorded is replayed still"


def test_every_thread_records_for_itself_into_the_same_buffers(
    graphs: CudaGraphs, session: _Counting, affine: Oracle
) -> None:
    graphs.run(["y"], {"x": rows(2)})
    with ThreadPoolExecutor(1) as pool:
        for seed in (1, 2):
            found = pool.submit(graphs.run, ["y"], {"x": rows(2, seed)}).result()[0]
            np.testing.assert_allclose(found, affine(rows(2, seed)), rtol=1e-5, atol=1e-6)
    assert session.plain == ["-1", "-1"]
    assert session.bound == ["1", "1", "1"], "recorded twice, replayed once"


def test_callers_at_once_get_their_own_answers(graphs: CudaGraphs, affine: Oracle) -> None:
    def answer(seed: int) -> np.ndarray:
        return graphs.run(["y"], {"x": rows(1 + seed % 3, seed)})[0]

    with ThreadPoolExecutor(4) as pool:
        for seed, found in enumerate(pool.map(answer, range(60))):
            np.testing.assert_allclose(found, affine(rows(1 + seed % 3, seed)), rtol=1e-5, atol=1e-6)

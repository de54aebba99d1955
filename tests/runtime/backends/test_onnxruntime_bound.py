"""Tensors that stay where they are: really on the processor, whose memory is a device like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.onnxruntime_session import OnnxRuntimeSession
from runtime.bundle.manifest import Format
from runtime.errors import ExecutionError, WrongUseError

Oracle = Callable[[np.ndarray], np.ndarray]
X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def session(affine_file: Callable[[Format], Path]) -> OnnxRuntimeSession:
    return OnnxRuntimeBackend.cpu().open(affine_file(Format.ONNX), RunOptions())


def test_outputs_can_be_read_by_others_and_are_right(session: OnnxRuntimeSession, affine: Oracle) -> None:
    result = session.run_bound({"x": X})["y"]
    assert result.__dlpack_device__() == (1, 0), "the processor's memory, by DLPack's numbers"
    np.testing.assert_allclose(np.from_dlpack(result), affine(X), rtol=1e-6)


def test_the_input_is_shared_and_not_copied(session: OnnxRuntimeSession, affine: Oracle) -> None:
    import onnxruntime

    memory = X.copy()
    value = onnxruntime.OrtValue.from_dlpack(memory)
    before = np.from_dlpack(session.run_bound({"x": value})["y"])
    memory[:] = 1
    after = np.from_dlpack(session.run_bound({"x": value})["y"])
    np.testing.assert_allclose(before, affine(X), rtol=1e-6)
    np.testing.assert_allclose(after, affine(np.ones_like(X)), rtol=1e-6)


def test_an_output_is_the_next_input(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    session = OnnxRuntimeBackend.cpu().open(tmp_path / "m.onnx", RunOptions())
    once = session.run_bound({"x": np.array([1, 2, 3], np.float32)})["y"]
    twice = session.run_bound({"x": once})["y"]
    session.close()
    assert np.from_dlpack(twice).tolist() == [4, 8, 12]
    assert np.from_dlpack(once).tolist() == [2, 4, 6], "it outlives its session and the call that read it"


def test_a_wrong_shape_is_told_and_the_session_lives_on(session: OnnxRuntimeSession, affine: Oracle) -> None:
    with pytest.raises(ExecutionError, match="'x' on the device"):
        session.run_bound({"x": np.zeros((2, 5), np.float32)})
    np.testing.assert_allclose(np.from_dlpack(session.run_bound({"x": X})["y"]), affine(X), rtol=1e-6)


def test_a_closed_session_refuses(session: OnnxRuntimeSession) -> None:
    session.close()
    with pytest.raises(WrongUseError, match="closed"):
        session.run_bound({"x": X})

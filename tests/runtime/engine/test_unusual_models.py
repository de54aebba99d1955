"""Models that are unlike most, from the file to the answer: unknown operators, int8 inside, fixed batches, state, odd numbers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.selection.networks import boosted_trees
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.errors import ExecutionError, InvalidInputError, NoCandidateError
from runtime.selection.settings import SelectionSettings

Shape = Sequence[int | str]


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    weights: dict[str, np.ndarray] | None = None,
    domain: str | None = None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "unusual",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    file = folder / "unusual.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(file))
    return file


def settings(tmp_path: Path, *backends: str) -> EngineSettings:
    selection = SelectionSettings(budget_s=0.05, isolate=False, backends=backends or ("onnxruntime-cpu",))
    return EngineSettings(selection, home=tmp_path / "home")


def test_an_operator_nobody_has_is_named(tmp_path: Path) -> None:
    file = save(
        tmp_path,
        [helper.make_node("Levitate", ["x"], ["y"], domain="moon")],
        {"x": [1, 2]},
        {"y": [1, 2]},
        domain="moon",
    )
    with pytest.raises(NoCandidateError, match="Levitate"):
        load(file, settings(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_an_operator_that_one_engine_lacks_costs_that_engine_only(tmp_path: Path) -> None:
    file = tmp_path / "trees.onnx"
    onnx.save(boosted_trees(features=4, trees=3, depth=2), str(file))
    with load(file, settings(tmp_path, "onnxruntime-cpu", "openvino-cpu")) as model:
        assert model.candidate.backend.name == "onnxruntime-cpu"
        reasons = [r.reason for r in model.choice.rejected if r.backend == "openvino-cpu" and not r.is_misfit]
        assert "TreeEnsembleRegressor" in reasons[0]
        assert model.predict(np.zeros((5, 4), np.float32))["y"].shape == (5, 1)


def test_int8_inside_and_float_outside(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    weights = {"scale": np.asarray(0.1, np.float32), "zero": np.asarray(0, np.int8)}
    file = save(tmp_path, nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, weights)
    with load(file, settings(tmp_path)) as model:
        assert [spec.datatype for spec in (*model.inputs, *model.outputs)] == ["FP32", "FP32"]
        answers = model.predict(np.array([[0.52, -3.0, 99.0]], np.float32))["y"]
        np.testing.assert_allclose(answers, [[0.5, 0.0, 12.7]], atol=1e-6)


def twice(tmp_path: Path, batch: int | str) -> Model:
    file = save(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"])], {"x": [batch, 3]}, {"y": [batch, 3]})
    return load(file, settings(tmp_path))


def test_a_free_batch_takes_any_number_of_rows_and_none(tmp_path: Path) -> None:
    with twice(tmp_path, "batch") as model:
        for rows in (1, 5, 0, 33):
            assert model.predict(np.ones((rows, 3), np.float32))["y"].shape == (rows, 3)
        assert "nothing" not in model.choice.guard
        assert any("accuracy is not guarded" in warning for warning in model.choice.warnings)


def test_a_fixed_batch_of_a_bare_file_takes_that_alone(tmp_path: Path) -> None:
    with twice(tmp_path, 4) as model:
        assert model.predict(np.ones((4, 3), np.float32))["y"].shape == (4, 3)
        for rows in (0, 1, 5):
            with pytest.raises(
                InvalidInputError, match=rf"float32 \[{rows}, 3\]; model 'unusual' wants float32 \[4, 3\]"
            ):
                model.predict(np.ones((rows, 3), np.float32))


def test_nan_and_infinity_stay_in_their_row(tmp_path: Path) -> None:
    with twice(tmp_path, "batch") as model:
        x = np.array([[1, 2, 3], [np.nan, np.inf, -np.inf], [4, 5, 6]], np.float32)
        np.testing.assert_array_equal(model.predict(x)["y"], 2 * x)


def test_state_that_callers_carry_is_theirs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "state"], ["sum"]), helper.make_node("Identity", ["sum"], ["next_state"])]
    shape = ["batch", 1]
    file = save(tmp_path, nodes, {"x": shape, "state": shape}, {"sum": shape, "next_state": shape})
    with load(file, settings(tmp_path)) as model:
        states = {who: np.zeros((1, 1), np.float32) for who in ("one", "other")}
        for turn in range(1, 6):
            for who, step in (("one", 1.0), ("other", 10.0)):
                answers = model.predict({"x": np.full((1, 1), step, np.float32), "state": states[who]})
                states[who] = answers["next_state"]
                assert answers["sum"].item() == step * turn
        with pytest.raises(InvalidInputError, match="input 'state' is missing"):
            model.predict({"x": np.zeros((1, 1), np.float32)})


def sum_of_ones(tmp_path: Path) -> Path:
    """As many ones as `x` says, added up: what it takes of memory shows only once it runs."""
    nodes = [
        helper.make_node("Cast", ["x"], ["shape"], to=TensorProto.INT64),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["ones"], value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        ),
        helper.make_node("ReduceSum", ["ones"], ["y"], keepdims=1),
    ]
    return save(tmp_path, nodes, {"x": [1]}, {"y": [1]})


def test_a_call_without_room_costs_that_call_alone(tmp_path: Path) -> None:
    with load(sum_of_ones(tmp_path), settings(tmp_path)) as model:
        with pytest.raises(ExecutionError, match="ONNX Runtime failed on"):
            model.predict(np.array([2.0**46], np.float32))  # 256 TiB, more than an address has bits for
        assert model.predict(np.array([7.0], np.float32))["y"].item() == 7
        assert model.fallbacks == []


def isolated(tmp_path: Path, **chosen: float) -> EngineSettings:
    selection = SelectionSettings(budget_s=0.05, backends=("onnxruntime-cpu",), threads=1, **chosen)  # type: ignore[arg-type]
    return EngineSettings(selection, home=tmp_path / "home")


@pytest.mark.slow
def test_a_file_that_eats_memory_takes_its_own_process_alone(tmp_path: Path) -> None:
    """8 GiB from a file of 300 bytes, computed from its input so that nothing folds it away while it is opened."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rank"]),
        helper.make_node("Mul", ["rank", "many"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["y"], keepdims=1),
    ]
    file = save(tmp_path, nodes, {"x": ["n"]}, {"y": [1]}, {"many": np.array([1 << 31], np.int64)})
    with pytest.raises(NoCandidateError, match="memory"):
        load(file, isolated(tmp_path, trial_memory_mb=300))


@pytest.mark.slow
def test_a_file_that_never_ends_takes_its_own_process_alone(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["state"], ["state_on"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_on", TensorProto.FLOAT, ["batch", 1]),
        ],
    )
    weights = {"turns": np.asarray(1 << 62, np.int64), "yes": np.asarray(True)}
    nodes = [helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)]
    file = save(tmp_path, nodes, {"x": ["batch", 1]}, {"y": ["batch", 1]}, weights)
    with pytest.raises(NoCandidateError, match="no answer within 10 s"):
        load(file, isolated(tmp_path, trial_timeout_s=10.0))

"""What is ONNX Runtime's alone: strings, datatypes, providers, a lost device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend, unwrapped
from runtime.backends.onnxruntime_session import OnnxRuntimeSession, is_full
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError
from runtime.hardware import probe
from runtime.tensors import DATATYPES, TensorSpec, dtype_of

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING, "BF16": TensorProto.BFLOAT16,
}  # fmt: skip


def save_identity(path: Path, kind: int, shape: list[str | int]) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def opened(path: Path) -> OnnxRuntimeSession:
    return OnnxRuntimeBackend.cpu().open(path, RunOptions())


def test_every_datatype_is_covered() -> None:
    assert set(ONNX_TYPES) == DATATYPES


@pytest.mark.parametrize("datatype", sorted(DATATYPES - {"BYTES", "BF16"}))
def test_numbers_pass_unchanged(datatype: str, tmp_path: Path) -> None:
    session = opened(save_identity(tmp_path / "m.onnx", ONNX_TYPES[datatype], ["n", 2]))
    assert session.inputs == (TensorSpec("x", datatype, (-1, 2)),)
    value = np.array([[0, 1], [1, 0]], dtype_of(datatype))
    result = session.run({"x": value})["y"]
    assert result.dtype == value.dtype
    np.testing.assert_array_equal(result, value)


def test_strings_are_bytes_both_ways(tmp_path: Path) -> None:
    session = opened(save_identity(tmp_path / "m.onnx", TensorProto.STRING, ["n", 2]))
    assert session.inputs[0].datatype == "BYTES"
    value = np.array([[b"", b"plain"], ["größe ✓".encode(), b"x" * 5000]], dtype=object)
    result = session.run({"x": value})["y"]
    assert result.dtype == object
    assert result.tolist() == value.tolist()
    assert session.run({"x": np.empty((0, 2), object)})["y"].shape == (0, 2)


def test_strings_that_are_not_utf8_are_the_callers_fault(tmp_path: Path) -> None:
    session = opened(save_identity(tmp_path / "m.onnx", TensorProto.STRING, ["n"]))
    with pytest.raises(InvalidInputError, match=r"input 'x'.*xff.*byte 2"):
        session.run({"x": np.array([b"ok\xff"], dtype=object)})
    assert session.run({"x": np.array([b"ok"], dtype=object)})["y"].tolist() == [b"ok"]


def test_bf16_is_refused_when_opened(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'x'.*tensor\(bfloat16\)"):
        opened(save_identity(tmp_path / "m.onnx", TensorProto.BFLOAT16, ["n"]))


def test_a_sequence_is_refused_when_opened(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(BundleError, match=r"output 'y'.*seq\(tensor\(float\)\)"):
        opened(tmp_path / "m.onnx")


@pytest.mark.parametrize("domain", ["", "acme"])
def test_an_unknown_operator_is_named_with_the_next_step(domain: str, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)],
        "unknown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(BundleError, match="Frobnicate.*it has no such operator: export the model"):
        opened(tmp_path / "m.onnx")


def test_external_data_beside_the_file_is_found(tmp_path: Path) -> None:
    weight = np.arange(2048, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "weight"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2048])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    result = opened(tmp_path / "m.onnx").run({"x": np.ones(2048, np.float32)})["y"]
    np.testing.assert_array_equal(result, weight + 1)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(BundleError):
        opened(tmp_path / "m.onnx")


def test_spinning_is_worth_trying_with_several_cores_only() -> None:
    hardware = probe()
    tried = OnnxRuntimeBackend.cpu().variations(hardware)
    assert tried == (({}, {"spinning": "0"}) if hardware.cores.threads > 1 else ({},))
    assert OnnxRuntimeBackend.directml().variations(hardware) == ({},)
    assert OnnxRuntimeBackend.tensorrt().variations(hardware) == ({}, {"fp16": "1"})
    assert all("spinning" not in extra for extra in OnnxRuntimeBackend.cuda().variations(hardware))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", BackendUnavailableError),
        ("CUDA error 46: all CUDA-capable devices are busy or unavailable", BackendUnavailableError),
        ("CUDA failure 2: out of memory ; GPU=0", ExecutionError),
        ("Non-zero status code returned while running Conv node", ExecutionError),
    ],
)
def test_a_lost_gpu_is_told_from_a_failed_run(
    message: str, kind: type[Exception], affine_file: Callable[[Format], Path]
) -> None:
    class Failing:
        def get_inputs(self) -> list[object]:
            return []

        def get_outputs(self) -> list[object]:
            return []

        def run(self, names: list[str], inputs: dict[str, object]) -> list[object]:
            raise RuntimeError(message)

    session = OnnxRuntimeSession(Failing(), Path("m.onnx"), "onnxruntime-cuda", Failing().run)
    with pytest.raises(kind, match=message.split(":")[0]):
        session.run({})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("CUDA failure 2: out of memory ; GPU=0", True),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 8589934592", True),
        ("Load model from m.onnx failed: Protobuf parsing failed.", False),
    ],
)
def test_a_device_without_room_is_told_from_a_bad_file(message: str, expected: bool) -> None:
    assert is_full(RuntimeError(message)) is expected


def test_an_engine_session_is_called_without_its_wrapper_where_there_is_one() -> None:
    class Wrapper:
        def run(self, names: list[str], inputs: dict[str, object]) -> list[str]:
            return ["wrapped"]

    class Engine:
        def run(self, names: list[str], inputs: dict[str, object], options: None) -> list[str]:
            return ["engine"]

    wrapper = Wrapper()
    assert unwrapped(wrapper)(["y"], {}) == ["wrapped"]
    wrapper._sess = Engine()  # type: ignore[attr-defined]
    assert unwrapped(wrapper)(["y"], {}) == ["engine"]


@pytest.mark.slow
def test_nothing_is_sent_home(tmp_path: Path, digits: Bundle) -> None:
    model = digits.root / "variants" / "fp32.onnx"
    code = (
        "import sys; from pathlib import Path; from runtime.backends.base import RunOptions; "
        "from runtime.backends.onnxruntime import OnnxRuntimeBackend as B; B.cpu().open(Path(sys.argv[1]), RunOptions())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, str(model)], cwd=root, env=environment, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == [], (
        "ONNX Runtime keeps what it has yet to send, and a number for this device, here"
    )

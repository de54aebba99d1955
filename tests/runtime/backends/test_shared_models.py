"""Backends on models that nobody here made: Triton's examples, MLPerf Tiny's twins in ONNX and TFLite."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import Backend, RunOptions, Session
from runtime.backends.litert import LiteRTBackend
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.openvino import OpenVinoBackend
from runtime.bundle import unchanged
from runtime.hardware import probe

IMAGES = 100


def opened(backend: Backend, file: Path) -> Session:
    reason = backend.unavailable_reason(probe())
    if reason is not None:
        pytest.skip(f"{backend.name}: {reason}")
    return backend.open(file, RunOptions())


@pytest.mark.parametrize("backend", [OnnxRuntimeBackend.cpu(), OpenVinoBackend()], ids=lambda backend: backend.name)
@pytest.mark.parametrize(("model", "dtype"), [("simple", np.int32), ("simple_int8", np.int8)])
def test_triton_simple_adds_and_subtracts(shared_models: Path, backend: Backend, model: str, dtype: type) -> None:
    session = opened(backend, shared_models / "triton_simple" / f"{model}.onnx")
    one = np.arange(48, dtype=dtype).reshape(3, 16)
    two = np.full((3, 16), 5, dtype)
    results = session.run({"INPUT0": one, "INPUT1": two})
    assert [spec.name for spec in session.outputs] == ["OUTPUT0", "OUTPUT1"]
    np.testing.assert_array_equal(results["OUTPUT0"], one + two)
    np.testing.assert_array_equal(results["OUTPUT1"], one - two)


def test_triton_simple_string_adds_numbers_in_text(shared_models: Path) -> None:
    session = opened(OnnxRuntimeBackend.cpu(), shared_models / "triton_simple" / "simple_string.onnx")
    one = np.array([[str(i).encode() for i in range(16)]], dtype=object)
    two = np.array([[b"7"] * 16], dtype=object)
    results = session.run({"INPUT0": one, "INPUT1": two})
    assert [int(text) for text in results["OUTPUT0"][0]] == [i + 7 for i in range(16)]
    assert [int(text) for text in results["OUTPUT1"][0]] == [i - 7 for i in range(16)]
    assert all(isinstance(text, bytes) for text in results["OUTPUT0"][0])


@pytest.fixture(scope="module")
def cifar(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(shared_data / "cifar10_test_500.npz") as data:
        return data["images"][:IMAGES].astype(np.float32), data["labels"][:IMAGES]


def classes(session: Session, images: np.ndarray) -> np.ndarray:
    """The arg max a image, one image a call: the ONNX twin takes no more."""
    (spec,) = session.inputs
    name = session.outputs[0].name
    if spec.datatype == "INT8":
        images = (images - 128).astype(np.int8)  # the file's scale is 1, its zero point -128
    return np.array([session.run({spec.name: images[i : i + 1]})[name].argmax() for i in range(len(images))])


@pytest.fixture(scope="module")
def reference(shared_models: Path, cifar: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    images, labels = cifar
    session = opened(OnnxRuntimeBackend.cpu(), shared_models / "mlperf_tiny" / "ic_resnet8_fp32.onnx")
    found = classes(session, np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    assert (found == labels).mean() >= 0.65  # about 75 % on all 500
    return found


def test_resnet8_tflite_agrees_with_its_onnx_twin(
    shared_models: Path, cifar: tuple[np.ndarray, np.ndarray], reference: np.ndarray
) -> None:
    session = opened(LiteRTBackend(), shared_models / "mlperf_tiny" / "ic_resnet8_fp32.tflite")
    np.testing.assert_array_equal(classes(session, cifar[0]), reference)
    (spec,) = session.inputs
    assert spec.shape == (-1, 32, 32, 3)
    at_once = session.run({spec.name: cifar[0]})[session.outputs[0].name].argmax(axis=1)
    np.testing.assert_array_equal(at_once, reference)


def test_resnet8_openvino_agrees_with_onnxruntime(
    shared_models: Path, cifar: tuple[np.ndarray, np.ndarray], reference: np.ndarray
) -> None:
    session = opened(OpenVinoBackend(), shared_models / "mlperf_tiny" / "ic_resnet8_fp32.onnx")
    np.testing.assert_array_equal(classes(session, np.ascontiguousarray(cifar[0].transpose(0, 3, 1, 2))), reference)


def test_resnet8_int8_tflite_is_nearly_as_right(
    shared_models: Path, cifar: tuple[np.ndarray, np.ndarray], reference: np.ndarray
) -> None:
    session = opened(LiteRTBackend(), shared_models / "mlperf_tiny" / "ic_resnet8_int8.tflite")
    assert session.inputs[0].datatype == session.outputs[0].datatype == "INT8"
    assert (classes(session, cifar[0]) == reference).mean() >= 0.9


def test_a_tflite_file_that_is_replaced_is_asked_anew_for_its_tensors(
    shared_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "SETTLED_AFTER_NS", -1)
    file, tiny = tmp_path / "model.tflite", shared_models / "mlperf_tiny"
    shutil.copy(tiny / "ic_resnet8_fp32.tflite", file)
    first, again = opened(LiteRTBackend(), file), opened(LiteRTBackend(), file)
    assert again.inputs is first.inputs
    image = np.zeros((1, *first.inputs[0].shape[1:]), np.float32)
    for name, value in first.run({first.inputs[0].name: image}).items():
        np.testing.assert_array_equal(again.run({first.inputs[0].name: image})[name], value)
    shutil.copy(next(tiny.glob("kws*.tflite")), file)
    other = opened(LiteRTBackend(), file)
    assert other.inputs != first.inputs
    assert first.run({first.inputs[0].name: image})

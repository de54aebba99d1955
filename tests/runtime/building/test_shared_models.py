"""Builds from models that nobody here made, on data that nobody here chose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.building.build import BuildReport, build_bundle
from runtime.building.request import parse_steps, read_request
from runtime.errors import BundleError

pytestmark = pytest.mark.slow


def build(source: Path, rows: Path, out: Path, steps: list[str], floor: float) -> BuildReport:
    request = read_request(None, {"preprocess": parse_steps(steps), "accuracy_floor": floor})
    return build_bundle(source, out, rows, request)


def test_resnet8_takes_raw_pixels(shared_models: Path, shared_data: Path, tmp_path: Path) -> None:
    source, rows = shared_models / "mlperf_tiny" / "ic_resnet8_fp32.onnx", shared_data / "cifar10_test_500.npz"
    report = build(source, rows, tmp_path / "resnet8", ["layout:NCHW", "cast:FP32"], 0.7)
    assert [v.name for v in report.bundle.variants] == ["fp32.onnx", "fp16.onnx", "int8.onnx", "int8-avx2.onnx"]
    for variant in report.bundle.variants:
        assert variant.accuracy is not None
        assert variant.accuracy > 0.7


def test_resnet8_fed_shares_is_refused_with_the_cause(shared_models: Path, shared_data: Path, tmp_path: Path) -> None:
    source, rows = shared_models / "mlperf_tiny" / "ic_resnet8_fp32.onnx", shared_data / "cifar10_test_500.npz"
    with pytest.raises(
        BundleError, match=r"right in 10\.\d+%.*the accuracy is 7\d\.\d+%.*multiplied by 255: the model wants 0\.\.255"
    ):
        build(source, rows, tmp_path / "resnet8", ["layout:NCHW", "scale:1/255"], 0.7)


def test_mnist_of_an_old_opset_is_quantised(shared_models: Path, shared_data: Path, tmp_path: Path) -> None:
    with np.load(shared_data / "mnist_test_1000.npz") as data:
        np.savez(tmp_path / "rows.npz", images=data["images"][:, None], labels=data["labels"])
    source = shared_models / "mnist" / "mnist_fp32.onnx"
    report = build(source, tmp_path / "rows.npz", tmp_path / "mnist", ["cast:FP32"], 0.97)
    assert [v.name for v in report.bundle.variants] == ["fp32.onnx", "fp16.onnx", "int8.onnx", "int8-avx2.onnx"]


def test_an_int8_tflite_source_is_kept_as_it_is(shared_models: Path, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    source, rows = shared_models / "mlperf_tiny" / "ic_resnet8_int8.tflite", shared_data / "cifar10_test_500.npz"
    report = build(source, rows, tmp_path / "resnet8", ["cast:FP32"], 0.7)
    (variant,) = report.bundle.variants
    (place,) = variant.mapping.inputs.values()
    assert (variant.name, place.datatype, place.scale) == ("int8.tflite", "INT8", 1.0)
    assert {one.reason for one in report.variants if one.name == "dynamic-int8.tflite"} == {
        "the source is int8 already; it is made from fp32"
    }

"""Rows with NaN through variants that compute in integers: NaN in their row alone, as an engine that computes in floats has it."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.litert import LiteRTBackend
from runtime.backends.nan_rows import SMALL, NanRows, swallows_nan
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.opened import open_variant
from runtime.backends.openvino import OpenVinoBackend
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, Mapping, TensorMapping, Variant
from runtime.hardware import probe
from runtime.tensors import TensorSpec, datatype_of

BATCHED = TensorSpec("x", "FP32", (-1, 2))
SHARED = TensorSpec("k", "FP32", (2,))
COUNTS = TensorSpec("n", "INT64", (-1,))
SCORES = TensorSpec("y", "FP32", (-1, 3))
TOTAL = TensorSpec("t", "FP32", (1,))
CLASSES = TensorSpec("c", "INT64", (-1,))
INPUTS = {"x": np.ones((3, 2), np.float32), "k": np.ones(2, np.float32), "n": np.ones(3, np.int64)}


def answers() -> dict[str, np.ndarray]:
    made = {"y": np.ones((3, 3), np.float32), "t": np.ones(1, np.float32), "c": np.ones(3, np.int64)}
    made["y"].flags.writeable = False
    return made


def test_nothing_is_touched_where_all_are_numbers() -> None:
    rows, outputs = NanRows((BATCHED, SHARED, COUNTS), (SCORES, TOTAL, CLASSES)), answers()
    assert rows.kept(INPUTS, outputs) is outputs
    infinite = {**INPUTS, "x": np.full((3, 2), np.inf, np.float32)}
    assert rows.kept(infinite, outputs) is outputs
    assert NanRows((BATCHED,), (SCORES,)).kept({"x": np.zeros((3, 0), np.float32)}, outputs) is outputs


def test_nan_of_a_row_is_that_rows_and_what_has_no_rows_is_nan_altogether() -> None:
    x = INPUTS["x"].copy()
    x[1, 0] = np.nan
    told = NanRows((BATCHED, SHARED, COUNTS), (SCORES, TOTAL, CLASSES)).kept({**INPUTS, "x": x}, answers())
    np.testing.assert_array_equal(np.isnan(told["y"]).all(axis=1), [False, True, False])
    np.testing.assert_array_equal(told["y"][[0, 2]], 1)
    assert np.isnan(told["t"]).all()
    np.testing.assert_array_equal(told["c"], 1)


def test_nan_of_an_input_without_rows_is_every_rows() -> None:
    x, k = INPUTS["x"].copy(), np.array([1, np.nan], np.float32)
    x[0] = np.nan
    told = NanRows((BATCHED, SHARED), (SCORES,)).kept({"x": x, "k": k}, {"y": answers()["y"]})
    assert np.isnan(told["y"]).all()


@pytest.mark.parametrize("size", [1, 5, SMALL, SMALL + 1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_single_nan_is_found_and_no_other_number_is_taken_for_one(size: int, dtype: type[np.floating]) -> None:
    """Of few values by their squares, whose sum overflows without a warning; of many by their minimum."""
    spec = TensorSpec("x", datatype_of(np.dtype(dtype)), (-1, size))
    rows, outputs = NanRows((spec,), (SCORES,)), {"y": np.ones((1, 3), np.float32)}
    for number in (0.0, np.finfo(dtype).max, np.finfo(dtype).tiny, np.inf, -np.inf):
        x = np.full((1, size), number, dtype)
        x[0, ::2] *= -1
        assert rows.kept({"x": x}, outputs) is outputs
        x[0, size // 2] = np.nan
        assert np.isnan(rows.kept({"x": x}, outputs)["y"]).all()
    sliced = np.ones((1, 2 * size), dtype)[:, ::2]
    assert rows.kept({"x": sliced}, outputs) is outputs


def variant(precision: str, mapping: Mapping = Mapping()) -> Variant:  # noqa: B008  (frozen)
    return Variant(
        name="v", file="v", format=Format.ONNX, precision=precision, sha256="0" * 64, size_bytes=1, mapping=mapping
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (variant("fp32"), False),
        (variant("fp16", Mapping(inputs={"x": TensorMapping(name="x", datatype="FP16")})), False),
        (variant("int8"), True),
        (variant("dynamic-int8"), True),
        (variant("as told", Mapping(inputs={"x": TensorMapping(name="q", scale=0.1)})), True),
        (variant("as told", Mapping(inputs={"x": TensorMapping(name="q", datatype="UINT8")})), True),
        (variant("fp32", Mapping(inputs={"n": TensorMapping(name="n", datatype="INT32")})), False),
    ],
)
def test_who_computes_in_integers(one: Variant, expected: bool) -> None:
    assert swallows_nan(one, True, (BATCHED, COUNTS)) is expected
    assert swallows_nan(one, False, (BATCHED, COUNTS))


BACKENDS = {one.name: one for one in (OnnxRuntimeBackend.cpu(), OpenVinoBackend(), LiteRTBackend())}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("fp32.onnx", "onnxruntime-cpu"),
        ("int8.onnx", "onnxruntime-cpu"),
        ("fp32.onnx", "openvino-cpu"),
        ("int8.onnx", "openvino-cpu"),
        ("fp32.tflite", "litert-cpu"),
        ("int8.tflite", "litert-cpu"),
    ],
)
def test_every_variant_of_a_real_model_answers_nan_in_that_row_alone(digits: Bundle, name: str, backend: str) -> None:
    chosen = next(one for one in digits.variants if one.name == name)
    reason = BACKENDS[backend].unavailable_reason(probe())
    if reason is not None:
        pytest.skip(reason)
    samples = digits.samples()
    assert samples is not None
    image = samples.inputs["image"][:3].copy()
    opened = open_variant(digits, chosen, BACKENDS[backend], RunOptions())
    expected = opened.predict({"image": image})["probabilities"]
    image[1, 0, 3, 3] = np.nan
    seen = opened.predict({"image": image})["probabilities"]
    opened.close()
    assert np.isnan(seen[1]).all()
    np.testing.assert_array_equal(seen[[0, 2]], expected[[0, 2]])

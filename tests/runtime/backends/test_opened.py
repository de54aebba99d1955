"""`OpenedVariant`: the manifest's mapping and a fixed batch, over a session that records what it was given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.backends.translation import translation_of
from runtime.bundle.bare import read_bare_file
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, Manifest
from runtime.errors import BundleError
from runtime.tensors import TensorSpec

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class FakeSession:
    """An engine whose arithmetic is a Python function; keeps the inputs of every call."""

    passes_nan = False

    def __init__(self, inputs: list[TensorSpec], outputs: list[TensorSpec], compute: Run) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.compute = compute
        self.calls: list[dict[str, np.ndarray]] = []
        self.is_closed = False

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls.append(dict(inputs))
        return self.compute(inputs)

    def close(self) -> None:
        self.is_closed = True


def bundle_of(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], mapping: dict[str, Any], fixed_batch: int | None = None
) -> Bundle:
    variant = {
        "name": "v",
        "file": "v.onnx",
        "format": "onnx",
        "precision": "fp32",
        "sha256": "0" * 64,
        "size_bytes": 1,
    }
    manifest = Manifest.model_validate_json(
        json.dumps(
            {
                "name": "m",
                "version": 1,
                "inputs": inputs,
                "outputs": outputs,
                "variants": [variant | {"mapping": mapping, "fixed_batch": fixed_batch}],
            }
        )
    )
    return Bundle(Path("/nowhere"), manifest, "m", 1, manifest.variants, "0" * 64)


def tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def opened(bundle: Bundle, session: FakeSession) -> OpenedVariant:
    return OpenedVariant(bundle, bundle.variants[0], session)


def identity(
    mapping: dict[str, Any], own: TensorSpec, *shape: int, datatype: str = "FP32"
) -> tuple[OpenedVariant, Any]:
    """A variant with `mapping` both ways around an engine that gives back what it gets."""
    session = FakeSession([own], [TensorSpec("out", own.datatype, own.shape)], lambda given: {"out": given[own.name]})
    bundle = bundle_of(
        [tensor("x", datatype, *shape)],
        [tensor("y", datatype, *shape)],
        {"inputs": {"x": {"name": own.name} | mapping}, "outputs": {"y": {"name": "out"} | mapping}},
    )
    return opened(bundle, session), session


def test_without_a_mapping_tensors_pass_untouched() -> None:
    session = FakeSession(
        [TensorSpec("x", "FP32", (-1, 2))], [TensorSpec("y", "FP32", (-1, 2))], lambda x: {"y": x["x"]}
    )
    bundle = bundle_of([tensor("x", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)], {})
    value = np.ones((3, 2), np.float32)
    assert opened(bundle, session).predict({"x": value})["y"] is value


def test_transpose_goes_there_and_back() -> None:
    variant, session = identity({"transpose": [0, 2, 3, 1]}, TensorSpec("nhwc", "FP32", (-1, 4, 5, 3)), -1, 3, 4, 5)
    value = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(variant.predict({"x": value})["y"], value)
    seen = session.calls[0]["nhwc"]
    assert seen.shape == (2, 4, 5, 3)
    assert seen.flags.c_contiguous
    assert seen[1, 2, 3, 0] == value[1, 0, 2, 3]


def test_reshape_goes_there_and_back() -> None:
    variant, session = identity({"shape": [-1, 12]}, TensorSpec("flat", "FP32", (-1, 12)), -1, 3, 4)
    value = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(variant.predict({"x": value})["y"], value)
    assert session.calls[0]["flat"].shape == (2, 12)


def test_transpose_comes_before_reshape() -> None:
    variant, session = identity(
        {"transpose": [0, 2, 1], "shape": [-1, 12]}, TensorSpec("flat", "FP32", (-1, 12)), -1, 3, 4
    )
    value = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(variant.predict({"x": value})["y"], value)
    np.testing.assert_array_equal(session.calls[0]["flat"], value.transpose(0, 2, 1).reshape(2, 12))


def test_quantisation_is_within_half_a_step_and_clips() -> None:
    mapping = {"datatype": "INT8", "scale": 0.1, "zero_point": -3}
    variant, session = identity(mapping, TensorSpec("q", "INT8", (-1, 8)), -1, 8)
    value = np.array([[0, 0.1, -0.26, 5, 1e9, -1e9, np.inf, -np.inf]], np.float32)
    result = variant.predict({"x": value})["y"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(session.calls[0]["q"], [[-3, -2, -6, 47, 127, -128, 127, -128]])
    np.testing.assert_allclose(result[0, :4], value[0, :4], atol=0.05 + 1e-6)
    np.testing.assert_allclose(result[0, 4:], [13.0, -12.5, 13.0, -12.5], rtol=1e-5)


def test_a_row_with_nan_is_answered_nan_where_its_tensor_is_quantised() -> None:
    mapping = {"datatype": "UINT8", "scale": 0.5, "zero_point": 7}
    variant, session = identity(mapping, TensorSpec("q", "UINT8", (-1, 2)), -1, 2)
    value = np.array([[1, 2], [np.nan, 3], [np.inf, -np.inf]], np.float32)
    result = variant.predict({"x": value})["y"]
    np.testing.assert_array_equal(result, [[1, 2], [np.nan, np.nan], [124, -3.5]])
    np.testing.assert_array_equal(session.calls[0]["q"], [[9, 11], [7, 13], [255, 0]])


def test_cast_goes_there_and_back() -> None:
    variant, session = identity({"datatype": "FP32"}, TensorSpec("f", "FP32", (-1, 2)), -1, 2, datatype="UINT8")
    value = np.array([[0, 255]], np.uint8)
    result = variant.predict({"x": value})["y"]
    assert session.calls[0]["f"].dtype == np.float32
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, value)


def test_only_the_mapped_outputs_are_given() -> None:
    session = FakeSession(
        [TensorSpec("x", "FP32", (-1, 1))],
        [TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "FP32", (-1, 1))],
        lambda given: {"a": given["x"], "b": given["x"] + 1},
    )
    bundle = bundle_of([tensor("x", "FP32", -1, 1)], [tensor("y", "FP32", -1, 1)], {"outputs": {"y": {"name": "b"}}})
    result = opened(bundle, session).predict({"x": np.zeros((1, 1), np.float32)})
    assert list(result) == ["y"]
    assert result["y"] == [[1]]


@pytest.mark.parametrize(("rows", "calls"), [(0, 0), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_fixed_batches_are_filled_and_cut(rows: int, calls: int) -> None:
    session = FakeSession(
        [TensorSpec("x", "FP32", (4, 2)), TensorSpec("k", "FP32", (1,))],
        [TensorSpec("y", "FP32", (4, 2))],
        lambda given: {"y": given["x"] * given["k"]},
    )
    bundle = bundle_of(
        [tensor("k", "FP32", 1), tensor("x", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)], {}, fixed_batch=4
    )
    value = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    result = opened(bundle, session).predict({"x": value, "k": np.array([3], np.float32)})["y"]
    np.testing.assert_array_equal(result, value * 3)
    assert result.dtype == np.float32
    assert len(session.calls) == calls
    assert all(call["x"].shape == (4, 2) and call["k"].shape == (1,) for call in session.calls)


def test_zero_rows_never_reach_the_engine() -> None:
    variant, session = identity({"transpose": [0, 2, 1]}, TensorSpec("t", "FP32", (-1, 3, 2)), -1, 2, 3)
    result = variant.predict({"x": np.zeros((0, 2, 3), np.float32)})["y"]
    assert result.shape == (0, 2, 3)
    assert result.dtype == np.float32
    assert session.calls == []


def test_zero_rows_still_compute_an_output_without_a_batch() -> None:
    session = FakeSession(
        [TensorSpec("x", "FP32", (-1, 2))],
        [TensorSpec("total", "FP32", (1,))],
        lambda given: {"total": given["x"].sum(keepdims=True).reshape(1)},
    )
    bundle = bundle_of([tensor("x", "FP32", -1, 2)], [tensor("total", "FP32", 1)], {})
    assert opened(bundle, session).predict({"x": np.zeros((0, 2), np.float32)})["total"] == [0]


@pytest.mark.parametrize(
    ("mapping", "own", "fixed_batch", "says"),
    [
        ({"inputs": {"x": {"name": "z"}}}, ("x", "FP32", (-1, 3, 4)), None, r"\['x'\].*maps onto \['z'\]"),
        ({"outputs": {"y": {"name": "z"}}}, ("x", "FP32", (-1, 3, 4)), None, r"outputs \['y'\].*\['z'\]"),
        ({}, ("x", "FP32", (-1, 4, 3)), None, r"FP32 \[batch, 3, 4\].*\[batch, 4, 3\]"),
        ({}, ("x", "FP32", (-1, 12)), None, r"FP32 \[batch, 12\]"),
        ({}, ("x", "INT8", (-1, 3, 4)), None, r"FP32 .*INT8"),
        ({}, ("x", "FP32", (1, 3, 4)), None, "batches of 1 only.*fixed_batch None"),
        ({}, ("x", "FP32", (1, 3, 4)), 2, "batches of 1 only.*fixed_batch 2"),
    ],
)
def test_a_mapping_that_does_not_fit_the_file(
    mapping: dict[str, Any], own: tuple[str, str, tuple[int, ...]], fixed_batch: int | None, says: str
) -> None:
    session = FakeSession([TensorSpec(*own)], [TensorSpec("y", "FP32", (-1, 2))], lambda given: {})
    bundle = bundle_of([tensor("x", "FP32", -1, 3, 4)], [tensor("y", "FP32", -1, 2)], mapping, fixed_batch)
    with pytest.raises(BundleError, match=says):
        opened(bundle, session)


def test_a_bare_file_takes_the_engine_s_own_tensors(affine_file: Callable[[Format], Path]) -> None:
    bundle = read_bare_file(affine_file(Format.ONNX))
    variant = open_variant(bundle, bundle.variants[0], OnnxRuntimeBackend.cpu(), RunOptions())
    assert variant.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert variant.predict({"x": np.zeros((0, 4), np.float32)})["y"].shape == (0, 3)
    np.testing.assert_allclose(variant.predict({"x": np.zeros((1, 4), np.float32)})["y"], [[0.5, -0.5, 2.0]])
    variant.close()


def test_a_changed_file_is_not_opened(affine_file: Callable[[Format], Path], tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    raw = bytearray(affine_file(Format.ONNX).read_bytes())
    copy.write_bytes(raw)
    bundle = read_bare_file(copy)
    assert bundle.variants[0].sha256 == hashlib.sha256(raw).hexdigest()
    raw[-1] ^= 1
    copy.write_bytes(raw)
    with pytest.raises(BundleError, match="sha256"):
        open_variant(bundle, bundle.variants[0], OnnxRuntimeBackend.cpu(), RunOptions())


def test_the_same_variant_is_translated_anew_only_where_its_engine_opens_it_differently() -> None:
    bundle = bundle_of([tensor("x", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)], {})

    def session(free: int) -> FakeSession:
        return FakeSession([TensorSpec("x", "FP32", (-1, free))], [TensorSpec("y", "FP32", (-1, 2))], lambda x: {})

    one, two, other = (translation_of(bundle, bundle.variants[0], session(free)) for free in (2, 2, -1))
    assert one is two
    assert other is not one
    with pytest.raises(BundleError, match="but the file has 'x'"):
        translation_of(bundle, bundle.variants[0], session(3))

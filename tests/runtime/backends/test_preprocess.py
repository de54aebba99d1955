"""Preprocessing against ONNX Runtime's operators and against plain arithmetic, and inside an opened variant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.opened import open_variant
from runtime.backends.preprocess import steps_of
from runtime.bundle.manifest import Format, ModelDescription, Tensor, VariantDescription
from runtime.bundle.preprocessing import Cast, ChangeLayout, Normalise, Reorder, Resize, Scale, Step
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle
from runtime.errors import InvalidInputError
from runtime.tensors import Array, TensorSpec, datatype_of

SIZES = [((7, 5), (3, 4)), ((3, 4), (7, 5)), ((8, 8), (4, 4)), ((1, 1), (3, 2)), ((6, 6), (6, 9)), ((31, 17), (32, 32))]


def apply(value: Array, *steps: Step) -> Array:
    """`value` preprocessed, after a check that the result is what shape inference says."""
    spec = TensorSpec("x", datatype_of(value.dtype), (-1, *value.shape[1:]))
    tensor = Tensor(name="x", datatype=spec.datatype, shape=spec.shape, preprocess=steps)
    run = steps_of(spec, steps)
    before = value.copy()
    result = value if run is None else run(value)
    np.testing.assert_array_equal(value, before)
    assert (datatype_of(result.dtype), result.shape[1:]) == (tensor.model_spec.datatype, tensor.model_spec.shape[1:])
    assert result.flags.c_contiguous
    return result


def onnx_resize(value: Array, height: int, width: int, mode: str) -> Array:
    """ONNX Runtime's Resize of NCHW float32, with the operator's defaults (half_pixel, round_prefer_floor)."""
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    node = onnx.helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode)
    graph = onnx.helper.make_graph(
        [node],
        "resize",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, value.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([*value.shape[:2], height, width], np.int64), "sizes")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x": value})[0]
    return result


@pytest.mark.parametrize(("size", "wanted"), SIZES)
@pytest.mark.parametrize(("method", "mode"), [("bilinear", "linear"), ("nearest", "nearest")])
def test_resize_is_onnx_resize(size: tuple[int, int], wanted: tuple[int, int], method: str, mode: str) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, *size)).astype(np.float32)
    want = onnx_resize(images, *wanted, mode)
    step = {"height": wanted[0], "width": wanted[1], "method": method}
    np.testing.assert_allclose(apply(images, Resize(**step, layout="NCHW")), want, rtol=1e-5, atol=1e-3)
    nhwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(apply(nhwc, Resize(**step)), want.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_integer_images_are_interpolated_and_rounded(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 3, *size)).astype(np.uint8)
    exact = onnx_resize(images.astype(np.float32), *wanted, "linear")
    got = apply(images, Resize(height=wanted[0], width=wanted[1], layout="NCHW"))
    assert np.abs(got.astype(np.float64) - exact).max() <= 0.5 + 1e-3


def test_a_constant_image_stays_constant_at_the_ends_of_the_range() -> None:
    for value in (0, 255):
        images = np.full((1, 5, 7, 3), value, np.uint8)
        assert (apply(images, Resize(height=11, width=3)) == value).all()


def test_scale_and_normalise_give_float32_from_integers() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    np.testing.assert_allclose(apply(images, Scale(by=1 / 255)), images / 255, rtol=1e-6)
    step = Normalise(mean=(1, 2, 3), std=(2, 4, 8))
    np.testing.assert_allclose(apply(images, step), (images - np.array([1, 2, 3])) / np.array([2, 4, 8]), rtol=1e-6)
    nchw = Normalise(mean=(1, 2, 3), std=(2, 4, 8), axis=1)
    got = apply(images, ChangeLayout(to="NCHW"), nchw, ChangeLayout(to="NHWC"))
    np.testing.assert_array_equal(got, apply(images, step))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_keep_their_datatype(dtype: type) -> None:
    images = np.linspace(0, 1, 24).astype(dtype).reshape(1, 2, 4, 3)
    steps: tuple[Step, ...] = (Resize(height=3, width=3), Scale(by=2.0), Normalise(mean=(0.5,), std=(0.5,)))
    assert apply(images, *steps).dtype == dtype


def test_layout_and_order_of_channels() -> None:
    images = np.arange(24).reshape(1, 2, 4, 3)
    np.testing.assert_array_equal(apply(images, ChangeLayout(to="NCHW")), images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(apply(images, Reorder(order=(2, 1, 0))), images[..., ::-1])


@pytest.mark.parametrize(
    ("value", "datatype", "want"),
    [
        (np.float32(2.5), "UINT8", 2),
        (np.float32(3.5), "UINT8", 4),
        (np.float32(-4), "UINT8", 0),
        (np.float32(1e9), "INT8", 127),
        (np.float32("nan"), "UINT8", 0),
        (np.float32("inf"), "INT16", 32767),
        (np.float64(1e30), "INT64", 2**63 - 1024),
        (np.int16(-300), "INT8", -128),
        (np.int16(300), "UINT8", 255),
        (np.int8(-1), "UINT64", 0),
        (np.uint64(2**64 - 1), "INT32", 2**31 - 1),
        (np.uint8(7), "FP32", 7),
    ],
)
def test_cast_rounds_and_clips(value: np.generic, datatype: str, want: float) -> None:
    assert apply(np.full((1, 2), value), Cast(datatype=datatype)).tolist() == [[want, want]]


def test_images_without_pixels_are_the_callers_mistake() -> None:
    run = steps_of(TensorSpec("image", "UINT8", (-1, -1, -1, 3)), [Resize(height=2, width=2)])
    assert run is not None
    with pytest.raises(InvalidInputError, match=r"'image' is \[1, 0, 4, 3\].*no pixels"):
        run(np.zeros((1, 0, 4, 3), np.uint8))


def test_an_opened_variant_preprocesses_what_callers_send(
    affine: Callable[[Array], Array], affine_file: Callable[[Format], Path], tmp_path: Path
) -> None:
    image = Tensor(
        name="x",
        datatype="UINT8",
        shape=(-1, 4),
        preprocess=(Scale(by=0.5), Normalise(mean=(1, 2, 3, 4), std=(2,) * 4)),
    )
    model = ModelDescription(
        name="affine", version=1, inputs=(image,), outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 3)),)
    )
    variant = VariantDescription(name="fp32.onnx", format=Format.ONNX, precision="fp32")
    draft = BundleDraft(model, (VariantDraft(variant, affine_file(Format.ONNX)),))
    bundle = write_bundle(tmp_path / "affine", draft)
    opened = open_variant(bundle, bundle.variants[0], OnnxRuntimeBackend.cpu(), RunOptions())
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert opened.inputs == (TensorSpec("x", "UINT8", (-1, 4)),)
    want = affine(((rows * 0.5 - [1, 2, 3, 4]) / 2).astype(np.float32))
    np.testing.assert_allclose(opened.predict({"x": rows})["y"], want, rtol=1e-5)
    assert opened.predict({"x": rows[:0]})["y"].shape == (0, 3)
    opened.close()

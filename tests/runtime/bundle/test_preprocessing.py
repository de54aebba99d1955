"""Declared preprocessing: which steps fit one another, and what a manifest refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.bundle.manifest import Manifest, Tensor, parse_manifest
from runtime.bundle.preprocessing import show_step
from runtime.errors import BundleError
from runtime.tensors import TensorSpec

IMAGE = {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
MODEL_STEPS: list[dict[str, Any]] = [
    {"step": "resize", "height": 32, "width": 48},
    {"step": "reorder", "order": [2, 1, 0]},
    {"step": "scale", "by": 0.5},
    {"step": "normalise", "mean": [1, 2, 3], "std": [1, 1, 2]},
    {"step": "layout", "to": "NCHW"},
    {"step": "cast", "datatype": "FP16"},
]


def manifest(steps: list[dict[str, Any]], image: dict[str, Any] = IMAGE) -> bytes:
    file = {"file": "variants/a.onnx", "sha256": "0" * 64, "size_bytes": 1}
    return json.dumps(
        {
            "name": "m",
            "version": 1,
            "inputs": [{**image, "preprocess": steps}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "variants": [{"name": "a.onnx", "format": "onnx", "precision": "fp32", **file}],
        }
    ).encode()


def test_steps_lead_from_what_callers_send_to_the_models_tensor() -> None:
    image = parse_manifest(manifest(MODEL_STEPS), "m").inputs[0]
    assert image.spec == TensorSpec("image", "UINT8", (-1, -1, -1, 3))
    assert image.model_spec == TensorSpec("image", "FP16", (-1, 3, 32, 48))
    assert [show_step(step) for step in image.preprocess] == [
        "resize to 32 x 48, bilinear (NHWC)",
        "channels in the order 2, 1, 0 (axis -1)",
        "multiply by 0.5",
        "subtract 1, 2, 3, divide by 1, 1, 2 (axis -1)",
        "NHWC to NCHW",
        "cast to FP16",
    ]


def test_a_manifest_with_steps_reads_back_as_it_was() -> None:
    first = parse_manifest(manifest(MODEL_STEPS), "m")
    assert parse_manifest(first.model_dump_json(exclude_defaults=True), "m") == first


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([{"step": "resise", "height": 1, "width": 1}], "resise"),
        ([{"step": "resize", "height": 0, "width": 1}], "greater than or equal to 1"),
        ([{"step": "resize", "height": 1, "width": 10**9}], "less than or equal"),
        ([{"step": "resize", "higth": 1, "width": 1}], "did you mean 'height'"),
        ([{"step": "normalise", "mean": [1, 2], "std": [1, 1]}], "step 1 .* 2 means, but axis -1 .* 3 channels"),
        ([{"step": "normalise", "mean": [1, 2, 3], "std": [1, 0, 1]}], "greater than 0"),
        ([{"step": "normalise", "mean": [1, 2, 3], "std": [1]}], "3 means and 1 deviations"),
        ([{"step": "normalise", "mean": [1], "std": [1], "axis": 0}], "axis 0"),
        ([{"step": "normalise", "mean": [1], "std": [1], "axis": 4}], "axis 4"),
        ([{"step": "reorder", "order": [0, 2]}], "no order of channels"),
        ([{"step": "reorder", "order": [1, 0]}], "names 2 channels"),
        ([{"step": "layout", "to": "HWCN"}], "NHWC"),
        ([{"step": "cast", "datatype": "BYTES"}], "cast to BYTES is not possible"),
        ([{"step": "cast", "datatype": "FLOAT"}], "unknown datatype"),
        ([{"step": "scale", "by": 1.0}] * 17, "at most 16"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(steps: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(BundleError, match=text):
        parse_manifest(manifest(steps), "m")


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ({"name": "x", "datatype": "BYTES", "shape": [-1]}, "only numbers are preprocessed"),
        ({"name": "x", "datatype": "FP32", "shape": [4, 4]}, "needs a free batch"),
        ({"name": "x", "datatype": "FP32", "shape": [-1, 4]}, "resize takes images of 4 dimensions"),
    ],
)
def test_inputs_that_cannot_be_preprocessed(image: dict[str, Any], text: str) -> None:
    with pytest.raises(BundleError, match=text):
        parse_manifest(manifest([{"step": "resize", "height": 2, "width": 2}], image), "m")


def test_outputs_are_not_preprocessed() -> None:
    value = json.loads(manifest([]))
    value["outputs"][0]["preprocess"] = [{"step": "scale", "by": 2}]
    with pytest.raises(BundleError, match="only inputs may"):
        parse_manifest(json.dumps(value), "m")


def test_a_tensor_without_steps_is_the_models_own() -> None:
    tensor = Tensor(name="x", datatype="FP32", shape=(-1, 4))
    assert tensor.model_spec == tensor.spec
    assert "preprocess" not in Manifest.model_fields

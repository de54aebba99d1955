"""Canonical tensors from a source's own, and where they lie in a variant's."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.building.description import Described, make_signature, mapping_onto
from runtime.building.request import read_request
from runtime.building.rows import RowFile
from runtime.bundle.manifest import TensorMapping
from runtime.errors import BundleError, WrongUseError
from runtime.tensors import Array, TensorSpec

NCHW = TensorSpec("x", "FP32", (1, 3, 4, 4))
SCORES = TensorSpec("y", "FP32", (1, 2))


def rows(**arrays: Array) -> RowFile:
    return RowFile(arrays, None, "rows.npz")


def images(dtype: type = np.float32) -> Array:
    return np.zeros((12, 3, 4, 4), dtype)


def test_callers_see_their_own_names_and_a_free_batch() -> None:
    request = read_request(
        None,
        {
            "inputs": {"image": {"model_input": "x", "range": [0, 1], "meaning": "pixels"}},
            "outputs": {"scores": {"model_output": "y"}},
        },
    )
    described = Described((NCHW,), (SCORES,))
    signature = make_signature(request, described, rows(image=images()))
    assert signature.inputs[0].spec == TensorSpec("image", "FP32", (-1, 3, 4, 4))
    assert signature.outputs[0].spec == TensorSpec("scores", "FP32", (-1, 2))
    assert described.fixed_batch == 1
    mapping = mapping_onto(signature, described)
    assert mapping.inputs == {"image": TensorMapping(name="x")}
    assert mapping.outputs == {"scores": TensorMapping(name="y")}


@pytest.mark.parametrize(
    ("own", "scales", "place"),
    [
        (TensorSpec("x", "FP32", (-1, 3, 4, 4)), {}, None),
        (TensorSpec("a", "FP32", (1, 4, 4, 3)), {}, TensorMapping(name="a", transpose=(0, 2, 3, 1))),
        (TensorSpec("a", "FP32", (1, 48)), {}, TensorMapping(name="a", shape=(-1, 48))),
        (TensorSpec("a", "FP16", (1, 3, 4, 4)), {}, TensorMapping(name="a", datatype="FP16")),
        (
            TensorSpec("a", "INT8", (1, 3, 4, 4)),
            {"a": (0.5, -3)},
            TensorMapping(name="a", datatype="INT8", scale=0.5, zero_point=-3),
        ),
    ],
)
def test_a_tensor_is_found_in_a_variant(
    own: TensorSpec, scales: dict[str, tuple[float, int]], place: TensorMapping | None
) -> None:
    signature = make_signature(read_request(None, {}), Described((NCHW,), (SCORES,)), rows(x=images()))
    found = mapping_onto(signature, Described((own,), (SCORES,), scales))
    assert found.inputs.get("x") == place


def test_a_tensor_without_a_place_is_told() -> None:
    signature = make_signature(read_request(None, {}), Described((NCHW,), (SCORES,)), rows(x=images()))
    with pytest.raises(BundleError, match=r"'x' FP32 \[batch, 3, 4, 4\] has no place in its 'a' FP32 \[1, 47\]"):
        mapping_onto(signature, Described((TensorSpec("a", "FP32", (1, 47)),), (SCORES,)))
    with pytest.raises(BundleError, match="it has 2 outputs"):
        mapping_onto(signature, Described((NCHW,), (SCORES, TensorSpec("z", "FP32", (1, 2)))))


def test_numbered_names_of_a_converter_are_taken_in_their_order() -> None:
    one, two = TensorSpec("one", "FP32", (-1, 4)), TensorSpec("two", "FP32", (-1, 4))
    request = read_request(None, {})
    arrays = rows(one=np.zeros((12, 4), np.float32), two=np.zeros((12, 4), np.float32))
    signature = make_signature(request, Described((one, two), (SCORES,)), arrays)
    own = (TensorSpec("args_1", "FP32", (1, 4)), TensorSpec("args_0", "FP32", (1, 4)))
    mapping = mapping_onto(signature, Described(own, (SCORES,)))
    assert {name: place.name for name, place in mapping.inputs.items()} == {"one": "args_0", "two": "args_1"}


def test_a_quantised_source_is_seen_as_floats() -> None:
    described = Described((TensorSpec("x", "INT8", (1, 4)),), (SCORES,), {"x": (0.1, 0)})
    signature = make_signature(read_request(None, {}), described, rows(x=np.zeros((12, 4))))
    assert signature.inputs[0].datatype == "FP32"
    assert signature.rows["x"].dtype == np.float32


def test_what_does_not_fit_is_told() -> None:
    described = Described((NCHW, TensorSpec("z", "FP32", (1, 2))), (SCORES,))
    steps = {"preprocess": [{"step": "scale", "by": 2}]}
    with pytest.raises(WrongUseError, match="declare the preprocessing of each in a TOML file"):
        make_signature(read_request(None, steps), described, rows(x=images()))
    with pytest.raises(WrongUseError, match="no input 'q'"):
        make_signature(read_request(None, {"inputs": {"q": {}}}), described, rows(x=images()))
    with pytest.raises(WrongUseError, match=r"UINT8 \[batch, 3, 4, 4\] in the rows.*--preprocess cast:FP32"):
        make_signature(read_request(None, {}), Described((NCHW,), (SCORES,)), rows(x=images(np.uint8)))


def test_a_model_needs_a_batch_in_common() -> None:
    with pytest.raises(BundleError, match="no batch in common"):
        _ = Described((NCHW,), (TensorSpec("h", "FP32", (2, 1, 8)),)).fixed_batch
    with pytest.raises(BundleError, match="'y' has no shape"):
        _ = Described((NCHW,), (TensorSpec("y", "FP32", ()),)).fixed_batch
    assert Described((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1,)),)).fixed_batch is None

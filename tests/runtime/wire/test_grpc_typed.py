"""Typed contents in replies: every datatype that has them, and what is said of those that have none."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import InvalidInputError
from runtime.tensors import dtype_of
from runtime.wire.grpc_codec import decode_response, encode_response
from runtime.wire.grpc_typed import encode_typed, wants_typed
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed

NUMBERS = ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64"]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_number_comes_back(datatype: str) -> None:
    kept = dtype_of(datatype)
    limits = np.finfo(kept) if kept.kind == "f" else None if kept.kind == "b" else np.iinfo(kept)
    values = [0, 1, 1, 0] if limits is None else [0, 1, limits.min, limits.max]
    given = InferenceResponse("m", "1", {"y": np.array(values, dtype=kept).reshape(2, 2)}, "7")
    message = encode_typed(given, {})
    assert not message.raw_output_contents
    seen = decode_response(message)
    assert seen.outputs["y"].dtype == kept
    np.testing.assert_array_equal(seen.outputs["y"], given.outputs["y"])
    assert seen.id == "7"


@pytest.mark.parametrize("dtype", [np.object_, np.str_, np.bytes_])
def test_texts_and_bytes_come_back(dtype: type) -> None:
    given = InferenceResponse("m", "1", {"y": np.array([["a", "bc"]]).astype(dtype)})
    assert decode_response(encode_typed(given, {})).outputs["y"].tolist() == [[b"a", b"bc"]]


def test_texts_are_the_same_bytes_as_in_a_raw_reply() -> None:
    outputs = {"y": np.array(["\ud800", "é", bytearray(b"\xff"), b"\x00"], dtype=np.object_)}
    given = InferenceResponse("m", "1", outputs)
    raw, typed = (
        decode_response(message).outputs["y"] for message in (encode_response(given), encode_typed(given, {}))
    )
    assert typed.tolist() == raw.tolist() == [b"\xed\xa0\x80", "é".encode(), b"\xff", b"\x00"]


def test_half_precision_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        InvalidInputError, match="'y' is FP16, which has no typed contents .* leave 'binary_data_output'"
    ):
        encode_typed(InferenceResponse("m", "1", {"y": np.zeros((1, 2), np.float16)}), {})


def test_what_is_in_shared_memory_has_no_contents() -> None:
    outputs = {"y": np.zeros((1, 2), np.float16), "z": np.ones((1, 2), np.float32)}
    message = encode_typed(InferenceResponse("m", "1", outputs), {"y": Placed("region", 0, 4)})
    assert [output.HasField("contents") for output in message.outputs] == [False, True]
    assert message.outputs[0].parameters["shared_memory_region"].string_param == "region"


@pytest.mark.parametrize(("given", "is_typed"), [(False, True), (True, False), (None, False)])
def test_only_false_asks_for_it(given: bool | None, is_typed: bool) -> None:
    parameters = {} if given is None else {"binary_data_output": given}
    assert wants_typed(InferenceRequest("m", {}, parameters=parameters)) is is_typed

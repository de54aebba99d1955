"""Dtypes, shapes and raw bytes: round trips by property, and every misfit named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.errors import InvalidInputError
from runtime.tensors import (
    DATATYPES,
    InputCheck,
    TensorSpec,
    as_bytes_tensor,
    check_inputs,
    count_elements,
    datatype_of,
    dtype_of,
    from_raw,
    to_raw,
)

IMAGE = TensorSpec("image", "FP32", (-1, 3, 4))
NUMERIC = sorted(DATATYPES - {"BYTES", "BF16"})


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_has_a_dtype_and_back(datatype: str) -> None:
    assert datatype_of(dtype_of(datatype)) == datatype


def test_unknown_datatypes_are_named_with_what_is_known() -> None:
    with pytest.raises(InvalidInputError, match="'FP33'.*FP32"):
        dtype_of("FP33")
    with pytest.raises(InvalidInputError, match="complex64"):
        datatype_of(np.dtype(np.complex64))


@given(data=st.data(), datatype=st.sampled_from(NUMERIC))
def test_numbers_survive_the_wire(data: st.DataObject, datatype: str) -> None:
    value = data.draw(hnp.arrays(dtype_of(datatype), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
    raw = bytes(to_raw(value))
    np.testing.assert_array_equal(from_raw("x", datatype, value.shape, raw), value)


def test_layout_and_byte_order_do_not_change_the_wire() -> None:
    value = np.arange(12, dtype=np.int32).reshape(3, 4)
    plain = bytes(to_raw(value))
    assert bytes(to_raw(np.asfortranarray(value))) == plain
    assert bytes(to_raw(value.astype(">i4"))) == plain
    assert bytes(to_raw(np.repeat(value, 2, axis=1)[:, ::2])) == plain


def test_raw_bytes_are_not_copied() -> None:
    raw = np.arange(6, dtype=np.float32).tobytes()
    value = from_raw("x", "FP32", (6,), raw)
    assert not value.flags.owndata
    assert not value.flags.writeable
    assert memoryview(to_raw(np.arange(6, dtype=np.float32))).nbytes == 24


def test_bfloat16_travels_as_its_two_bytes() -> None:
    value = np.array([1.0, -2.5, 3.140625]).astype(dtype_of("BF16"))
    raw = bytes(to_raw(value))
    assert raw[:2] == b"\x80\x3f", "1.0 in bfloat16, little-endian"
    np.testing.assert_array_equal(from_raw("x", "BF16", (3,), raw), value)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_byte_strings_survive_the_wire(items: list[bytes]) -> None:
    value = as_bytes_tensor(np.array([*items, None], dtype=np.object_)[:-1])
    assert from_raw("x", "BYTES", (len(items),), bytes(to_raw(value))).tolist() == items


def test_strings_become_utf8() -> None:
    assert as_bytes_tensor(np.array(["Zürich", "x"])).tolist() == ["Zürich".encode(), b"x"]


@pytest.mark.parametrize(
    ("raw", "count", "says"),
    [
        (b"", 1, "at least 4 bytes"),
        (b"\x05\0\0\0ab", 1, "claims 5 bytes, but only 2"),
        (b"\x01\0\0\0ab", 1, "1 bytes left over"),
        (b"\x04\0\0\0abcd", 2, "ends after 1 of 2"),
        (b"\xff\xff\xff\xff", 1, "claims 4294967295 bytes"),
    ],
)
def test_broken_byte_strings_are_refused(raw: bytes, count: int, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        from_raw("x", "BYTES", (count,), raw)


@given(st.binary(max_size=64), st.lists(st.integers(-2, 2**40), max_size=4), st.sampled_from(sorted(DATATYPES)))
def test_hostile_bytes_and_shapes_only_ever_raise_our_error(raw: bytes, shape: list[int], datatype: str) -> None:
    try:
        value = from_raw("x", datatype, shape, raw)
    except InvalidInputError:
        return
    assert value.shape == tuple(shape)


def test_byte_counts_that_disagree_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"'x' has 7 bytes, but FP32 \[2\] takes 8"):
        from_raw("x", "FP32", (2,), b"1234567")


def test_absurd_shapes_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(InvalidInputError, match="more than"):
        count_elements((2**31, 2**31, 2**31))
    with pytest.raises(InvalidInputError, match="negative dimension -1"):
        count_elements((3, -1))


def test_inputs_that_fit_give_their_rows() -> None:
    other = TensorSpec("other", "INT64", (-1,))
    assert check_inputs("m", [IMAGE], {"image": np.zeros((5, 3, 4), np.float32)}) == 5
    assert (
        check_inputs("m", [IMAGE, other], {"image": np.zeros((2, 3, 4), np.float32), "other": np.zeros(2, np.int64)})
        == 2
    )
    assert check_inputs("m", [TensorSpec("x", "FP32", (4,))], {"x": np.zeros(4, np.float32)}) == 1


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, r"input 'image' is missing; given: none; model 'm' wants 'image' FP32 \[batch, 3, 4\]"),
        ({"img": np.zeros((1, 3, 4), np.float32)}, "input 'image' is missing; given: 'img'"),
        (
            {"image": np.zeros((1, 3, 4), np.float64)},
            r"'image' is float64 \[1, 3, 4\]; model 'm' wants float32 \[batch, 3, 4\]; cast it, as by .astype\(numpy.float32\)",
        ),
        ({"image": np.zeros((1, 4, 3), np.float32)}, r"\[1, 4, 3\]; model 'm' wants float32 \[batch, 3, 4\]$"),
        ({"image": np.array([[["a"]]])}, r"'image' is BYTES \[1, 1, 1\]; model 'm' wants float32 \[batch, 3, 4\]$"),
        ({"image": np.zeros((3, 4), np.float32)}, r"\[3, 4\]; model"),
        ({"image": np.zeros((1, 3, 4), np.float32), "more": np.zeros(1)}, "unknown input 'more'"),
        ({"image": np.zeros((1, 3, 4), np.complex64)}, "complex64"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        check_inputs("m", [IMAGE], inputs)
    check = InputCheck("m", [IMAGE])
    for rows in (1, 3):  # what it remembers of calls that fit hides none that does not
        assert check.rows({"image": np.zeros((rows, 3, 4), np.float32)}) == rows
        with pytest.raises(InvalidInputError, match=says):
            check.rows(inputs)


def test_inputs_of_one_request_carry_the_same_batch() -> None:
    specs = [TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))]
    with pytest.raises(InvalidInputError, match="'b' has 3 rows, but the inputs before it have 2"):
        check_inputs("m", specs, {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)})

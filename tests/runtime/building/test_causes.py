"""Alterations of the model's tensors: each undoes the mistake it is named for."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.building.causes import advice, alterations_for, altered, is_decisive, is_guessing

BYTES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 6)).astype(np.float32)
SHARES = BYTES / np.float32(255)


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("times-255", SHARES, BYTES),
        ("by-255", BYTES, SHARES),
        ("share-to-signed", SHARES, SHARES * 2 - 1),
        ("signed-to-share", SHARES * 2 - 1, SHARES),
        ("signed-to-byte", SHARES * 2 - 1, BYTES),
        ("byte-to-signed", BYTES, SHARES * 2 - 1),
        ("bgr", BYTES[:, ::-1], BYTES),
        ("rows-as-columns", BYTES.swapaxes(2, 3), BYTES),
        ("was-nhwc", BYTES.transpose(0, 2, 3, 1).reshape(BYTES.shape), BYTES),
        ("times-255+bgr", SHARES[:, ::-1], BYTES),
    ],
)
def test_an_alteration_undoes_its_mistake(name: str, given: np.ndarray, meant: np.ndarray) -> None:
    np.testing.assert_allclose(altered(name, np.ascontiguousarray(given)), meant, rtol=1e-4, atol=1e-3)
    assert advice(name)


def test_imagenet_and_back() -> None:
    normal = altered("share-to-imagenet", SHARES)
    np.testing.assert_allclose(altered("imagenet-to-share", normal), SHARES, atol=1e-5)
    np.testing.assert_allclose(altered("byte-to-imagenet", BYTES), normal, atol=1e-4)
    assert normal.dtype == np.float32


def test_nhwc_images_are_known_by_their_channels() -> None:
    nhwc = np.ascontiguousarray(BYTES.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(altered("bgr", nhwc), nhwc[..., ::-1])


@pytest.mark.parametrize(
    ("value", "first"), [(SHARES, "times-255"), (BYTES, "by-255"), (SHARES * 2 - 1, "signed-to-byte")]
)
def test_the_range_of_values_tells_what_is_worth_trying(value: np.ndarray, first: str) -> None:
    names = alterations_for({"image": value})
    assert names[0] == first
    assert {"bgr", "was-nhwc", f"{first}+bgr"} <= set(names)
    for name in names:
        assert altered(name, value).shape in (value.shape, (5, 3, 6, 8))


def test_tokens_and_table_rows_are_no_images() -> None:
    tokens = np.arange(12).reshape(3, 4)
    assert alterations_for({"tokens": tokens}) == ()
    np.testing.assert_array_equal(altered("bgr", tokens), tokens)
    assert "bgr" not in alterations_for({"row": np.ones((3, 4), np.float32)})


def test_a_gain_has_to_be_more_than_chance() -> None:
    assert is_decisive(0.1, 0.75, 200)
    assert not is_decisive(0.70, 0.75, 200)
    assert not is_decisive(0.5, 0.75, 10)


def test_guessing() -> None:
    labels = np.arange(300) % 3
    assert is_guessing(0.35, labels)
    assert not is_guessing(0.6, labels)
    assert is_guessing(0.9, np.array([0] * 90 + [1] * 10))

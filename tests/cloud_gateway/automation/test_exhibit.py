"""Inputs as people see them: pictures that an independent decoder reads, and tables."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest

from cloud_gateway.automation.exhibit import MOST_COLUMNS, MOST_ROWS, MOST_SIDE, exhibit, pixels, png

image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra batch)")


def decoded(url: str) -> np.ndarray:
    head, _, body = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_is_what_was_sent_whichever_way_its_axes_lie(channels: int) -> None:
    sent = np.random.default_rng(1).integers(0, 256, (2, 9, 12, channels), np.uint8)
    for value in (sent, np.moveaxis(sent, -1, 1)):
        (told,) = exhibit({"image": value})
        assert told["shape"] == list(value.shape)
        assert len(told["images"]) == 2
        for row, url in enumerate(told["images"]):
            np.testing.assert_array_equal(decoded(url).reshape(9, 12, channels), sent[row])


def test_shares_bytes_and_normalised_values_are_all_seen() -> None:
    shares = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    np.testing.assert_array_equal(pixels(shares), np.rint(shares * 255).astype(np.uint8))
    np.testing.assert_array_equal(pixels(shares * 200), np.rint(shares * 200).astype(np.uint8))
    normalised = pixels(shares * 4 - 2)
    assert (normalised.min(), normalised.max()) == (0, 255)
    shares[0, 0] = np.nan
    assert pixels(shares)[0, 0] == 0


def test_a_large_picture_is_thinned_and_many_rows_are_cut() -> None:
    assert pixels(np.zeros((3000, 10, 3), np.uint8)).shape == (500, 2, 3)
    assert max(pixels(np.zeros((3000, 2000, 1))).shape) <= MOST_SIDE
    (told,) = exhibit({"image": np.zeros((99, 1, 8, 8), np.float32)})
    assert len(told["images"]) == MOST_ROWS


def test_everything_else_is_a_table_that_json_takes() -> None:
    told = exhibit(
        {
            "features": np.array([[1.23456789, np.nan, np.inf]], np.float32),
            "wide": np.zeros((40, 500)),
            "index": np.array([3, 4]),
            "words": np.array([b"caf\xc3\xa9", b"x"], object),
            "none": np.zeros((0, 3)),
        }
    )
    tables = {one["name"]: one["table"] for one in json.loads(json.dumps(told, allow_nan=False))}
    assert tables["features"] == [[1.23457, "nan", "inf"]]
    assert (len(tables["wide"]), len(tables["wide"][0])) == (MOST_ROWS, MOST_COLUMNS)
    assert tables["index"] == [[3], [4]]
    assert tables["words"] == [["café"], ["x"]]
    assert tables["none"] == []


def test_a_png_is_one_that_pillow_verifies() -> None:
    opened: Any = image.open(io.BytesIO(png(np.full((5, 7, 3), 9, np.uint8))))
    opened.verify()
    assert opened.size == (7, 5)

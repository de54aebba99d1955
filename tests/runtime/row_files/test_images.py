"""Folders of images: pixels as Pillow has them, in the input's layout and range; what is no image is an unreadable row."""

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidInputError
from runtime.row_files.block import InputSpec
from runtime.row_files.opening import open_rows
from runtime.tensors import TensorSpec

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 3), np.uint8)
    Image.fromarray(pixels[0]).save(folder / "b.png")
    Image.fromarray(pixels[1][..., 0]).save(folder / "sub" / "a.PNG")
    Image.fromarray(pixels[2][:2]).save(folder / "c.png")
    (folder / "a.jpg").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("no row")
    return folder


def test_pixels_layout_and_names(folder: Path) -> None:
    spec = InputSpec(TensorSpec("x", "UINT8", (-1, -1, -1, 3)))
    with open_rows(folder, "m", [spec]) as reader:
        assert reader.rows == 4
        block = reader.read(10)
        assert block is not None
        assert reader.read(10) is None
    assert block.names == ("a.jpg", "b.png", "c.png", "sub/a.PNG")
    assert [group.rows for group in block.groups] == [(1, 3), (2,)]
    assert [(row.row, row.where) for row in block.unreadable] == [(0, "a.jpg")]
    expected = np.asarray(Image.open(folder / "b.png"))
    np.testing.assert_array_equal(block.groups[0].inputs["x"][0], expected)


def test_a_float_input_takes_pixels_in_its_declared_range_and_channels_first(folder: Path) -> None:
    spec = InputSpec(TensorSpec("x", "FP32", (-1, 1, 4, 5)), (-1.0, 1.0))
    with open_rows(folder, "m", [spec]) as reader:
        reader.skip(1)
        block = reader.read(10)
    assert block is not None
    grey = np.asarray(Image.open(folder / "b.png").convert("L")).astype(np.float32)
    np.testing.assert_allclose(block.groups[0].inputs["x"][0, 0], grey / 127.5 - 1, atol=1e-6)
    assert [row.row for row in block.unreadable] == [2]
    assert "2 x 5 pixels; the model takes [1, 4, 5] and its bundle declares no resize" in block.unreadable[0].reason


@pytest.mark.parametrize(
    ("specs", "told"),
    [
        ([InputSpec(TensorSpec("x", "FP32", (-1, 4, 4, 3)))], "does not say which range"),
        ([InputSpec(TensorSpec("x", "UINT8", (-1, 10)))], "is no image"),
        ([InputSpec(TensorSpec("x", "INT64", (-1, 4, 4, 3)))], "UINT8 and floats"),
        ([InputSpec(TensorSpec(n, "UINT8", (-1, 4, 4, 3))) for n in "ab"], "makes one input"),
    ],
)
def test_a_model_that_takes_no_images_is_said(specs: list[InputSpec], told: str, folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=told), open_rows(folder, "m", specs):
        pass

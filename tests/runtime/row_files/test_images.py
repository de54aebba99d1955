"""Folders of images: pixels as Pillow has them, in the input's layout and range; what is no image is an unreadable row."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidInputError, StorageError
from runtime.row_files.block import InputSpec
from runtime.row_files.image_names import SORTED_AT_ONCE_KIB, SortedNames, image_files, images_digest
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


def test_names_come_in_the_order_of_their_characters_however_many() -> None:
    chance = np.random.default_rng(2)
    # More than SQLite sorts in memory, so that it goes through its files.
    names = [f"{number:x}/é{number % 7}\U0001f600{'x' * 60}.png" for number in chance.permutation(60_000)]
    assert sum(len(name.encode()) for name in names) > SORTED_AT_ONCE_KIB << 10
    ordered = SortedNames(iter(names))
    assert len(ordered) == len(names)
    first = ordered.take(10)
    ordered.skip(29_990)
    rest = ordered.take(10**6)
    assert [*first, *rest] == [*sorted(names)[:10], *sorted(names)[30_000:]]
    assert ordered.take(1) == []
    ordered.close()


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"b\xff.png", b"a.png", b"c.PNG", b".png", b"notes"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"x")
    with_names = SortedNames(name for name, _ in image_files(tmp_path))
    assert [os.fsencode(name) for name in with_names.take(9)] == [b"a.png", b"b\xff.png", b"c.PNG"]
    with_names.close()


def test_a_full_disk_is_said_and_no_database_is_left_open() -> None:
    def names() -> Iterator[str]:
        yield "a.png"
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(StorageError, match="database or disk is full; make room"):
        SortedNames(names())


def test_what_a_folder_holds_is_known_by_its_images_alone(folder: Path) -> None:
    before = images_digest(folder)
    (folder / "notes.txt").write_text("other words")
    (folder / "out.csv").write_text("the job's own")
    (folder / "z.png").symlink_to(folder / "nowhere.png")
    with_a_dead_link = images_digest(folder)
    (folder / "z.png").unlink()
    assert images_digest(folder) == before != with_a_dead_link
    (folder / "z.png").symlink_to(folder / "z.png")  # which no call can follow
    assert images_digest(folder) == with_a_dead_link
    (folder / "z.png").unlink()
    os.utime(folder / "b.png", (1, 1))
    assert images_digest(folder) != before

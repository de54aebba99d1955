"""Files of rows: the same tensors from every format, rows that cannot be read apart, and skipping that ends where reading would."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidInputError, WrongUseError
from runtime.row_files.block import Block, InputSpec
from runtime.row_files.opening import open_rows
from runtime.tensors import Array, TensorSpec

IMAGE = InputSpec(TensorSpec("image", "FP32", (-1, 2, 3)))
COUNT = InputSpec(TensorSpec("count", "INT32", (-1,)))
ROWS = 23


@pytest.fixture
def image() -> Array:
    return np.random.default_rng(1).standard_normal((ROWS, 2, 3)).astype(np.float32)


@pytest.fixture
def count() -> Array:
    return np.arange(ROWS, dtype=np.int32)


def write(file: Path, image: Array, count: Array) -> None:
    match file.suffix:
        case ".npz":
            np.savez_compressed(file, image=image, count=count, other=count)
        case ".csv":
            with file.open("w", newline="") as stream:
                lines = csv.writer(stream)
                lines.writerow(["other", *(f"image.{i}" for i in range(6)), "count"])
                lines.writerows(["x", *row.ravel().tolist(), n] for row, n in zip(image, count, strict=True))
        case ".jsonl":
            rows = zip(image.tolist(), count.tolist(), strict=True)
            file.write_text("\n\n".join(json.dumps({"count": n, "image": row, "other": 1}) for row, n in rows), "utf-8")
        case ".parquet":
            pa = pytest.importorskip("pyarrow")
            import pyarrow.parquet as parquet

            table = pa.table({"image": image.tolist(), "count": count, "other": count})
            table = table.set_column(0, "image", table["image"].cast(pa.list_(pa.list_(pa.float32()))))
            parquet.write_table(table, file, row_group_size=5)


def test_the_samples_of_a_bundle_are_rows_too(image: Array, count: Array, tmp_path: Path) -> None:
    file = tmp_path / "samples.npz"
    arrays = {"input:image": image, "input:count": count, "output:scores": np.zeros((ROWS, 4)), "labels": count}
    np.savez(file, **arrays)  # type: ignore[arg-type]
    with open_rows(file, "m", (IMAGE, COUNT)) as reader:
        assert reader.unused == ["labels"]
        block = reader.read(ROWS)
    assert block is not None
    (group,) = block.groups
    np.testing.assert_array_equal(group.inputs["image"], image)
    np.testing.assert_array_equal(group.inputs["count"], count)


def read_all(file: Path, specs: Sequence[InputSpec], step: int, skip: int = 0) -> list[Block]:
    with open_rows(file, "m", specs) as reader:
        reader.skip(skip)
        return list(iter(lambda: reader.read(step), None))


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("step", "skip"), [(4, 0), (100, 0), (4, 8), (7, 22), (1, 23), (4, 40)])
def test_every_format_gives_the_same_rows(
    suffix: str, step: int, skip: int, image: Array, count: Array, tmp_path: Path
) -> None:
    file = tmp_path / f"in{suffix}"
    write(file, image, count)
    blocks = read_all(file, [IMAGE, COUNT], step, skip)
    assert [block.count for block in blocks[:-1]] == [step] * (len(blocks) - 1)
    assert [block.first for block in blocks] == list(range(min(skip, ROWS), ROWS, step))
    for name, expected in (("image", image), ("count", count)):
        got = [block.groups[0].inputs[name] for block in blocks]
        assert all(len(block.groups) == 1 for block in blocks)
        if skip < ROWS:
            np.testing.assert_array_equal(np.concatenate(got), expected[skip:])
            assert got[0].dtype == expected.dtype


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".jsonl", ".parquet"])
def test_what_no_input_uses_is_named(suffix: str, image: Array, count: Array, tmp_path: Path) -> None:
    file = tmp_path / f"in{suffix}"
    write(file, image, count)
    with open_rows(file, "m", [IMAGE, COUNT]) as reader:
        reader.read(1)
        assert list(reader.unused) == ["other"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("foo.npz", "array 'foo' is taken as 'image'"),
        ("image.npz", ""),
        ("in.npy", ""),
        ("foo.csv", "the 4 columns are, in their order, taken as 'image'"),
        ("image.csv", ""),
    ],
)
def test_what_is_taken_without_having_the_name_is_said(name: str, expected: str, tmp_path: Path) -> None:
    file, stem = tmp_path / name, name.partition(".")[0]
    spec = InputSpec(TensorSpec("image", "FP32", (-1, 2, 2)))
    rows = np.zeros((3, 2, 2), np.float32)
    if file.suffix == ".npz":
        np.savez(file, allow_pickle=False, **{stem: rows})
    elif file.suffix == ".npy":
        np.save(file, rows)
    else:
        file.write_text(",".join(f"{stem}.{i}" for i in range(4)) + "\n1,2,3,4\n")
    with open_rows(file, "m", [spec]) as reader:
        assert reader.assumed == expected


def test_csv_rows_that_cannot_be_read_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(b'count\n1\n\ntwo\n3\n4,5\n2.5\n99999999999\n\xff\n"6\n"\n7\n')
    blocks = read_all(file, [COUNT], 4)
    rows = [row for block in blocks for group in block.groups for row in group.rows]
    values = [value for block in blocks for group in block.groups for value in group.inputs["count"].tolist()]
    assert (rows, values) == ([0, 2, 7, 8], [1, 3, 6, 7])
    bad = [row for block in blocks for row in block.unreadable]
    assert [(row.row, row.where) for row in bad] == [
        (1, "line 4"),
        (3, "line 6"),
        (4, "line 7"),
        (5, "line 8"),
        (6, "line 9"),
    ]
    assert "two" in bad[0].reason
    assert "2 fields; the table has 1 columns" in bad[1].reason


def test_a_csv_without_a_header_is_read_by_the_order_of_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("1,2,3,4,5,6\n7,8,9,10,11,12\n")
    (block,) = read_all(file, [IMAGE], 10)
    np.testing.assert_array_equal(block.groups[0].inputs["image"].ravel(), np.arange(1, 13))


def test_a_csv_of_texts_and_truths(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("text,flag\nä b,true\nc,0\n", "utf-8")
    specs = [InputSpec(TensorSpec("text", "BYTES", (-1, 1))), InputSpec(TensorSpec("flag", "BOOL", (-1,)))]
    (block,) = read_all(file, specs, 10)
    assert block.groups[0].inputs["text"].tolist() == [["ä b".encode()], [b"c"]]
    assert block.groups[0].inputs["flag"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("picture,label", "no columns for input 'image'"),
        ("image.0,image.1", "has 2 columns for input 'image'"),
        ("", "is empty; expected a header"),
    ],
)
def test_columns_that_do_not_fit_are_said_before_anything_runs(header: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text(header + "\n1,2\n" if header else "")
    with pytest.raises(InvalidInputError, match=told):
        read_all(file, [IMAGE], 1)


def test_json_lines_that_cannot_be_read_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    good = [[1, 2, 3], [4, 5, 6]]
    lines = [
        {"image": good},
        "{",
        {"picture": good},
        {"image": [[1, 2], [3]]},
        {"image": [[1, 2, 3]]},
        {"image": [["a", 2, 3], [4, 5, 6]]},
        {"image": None},
        {"image": [[True, False, True], [True, True, True]]},
        good,
    ]
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    (block,) = read_all(file, [IMAGE], 100)
    assert [row for group in block.groups for row in group.rows] == [0, 8]
    assert [row.row for row in block.unreadable] == [1, 2, 3, 4, 5, 6, 7]
    assert "input 'image' is missing; the line has picture" in block.unreadable[1].reason
    assert block.unreadable[3].reason == "input 'image' has the shape [1, 3]; expected [2, 3]"
    assert [row.where for row in block.unreadable][:2] == ["line 2", "line 3"]


def test_json_lines_keep_integers_exact_and_refuse_what_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"count": 3}\n{"count": 3.0}\n{"count": 3.5}\n{"count": 3000000000}\n')
    (block,) = read_all(file, [COUNT], 100)
    assert [row for group in block.groups for row in group.rows] == [0, 1]
    assert [row.row for row in block.unreadable] == [2, 3]


def test_rows_of_different_shapes_come_in_groups_of_one(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(json.dumps(list(range(n))) for n in (2, 3, 2, 3, 3)))
    (block,) = read_all(file, [InputSpec(TensorSpec("x", "FP32", (-1, -1)))], 100)
    assert [group.rows for group in block.groups] == [(0, 2), (1, 3, 4)]
    assert [group.inputs["x"].shape for group in block.groups] == [(2, 2), (3, 3)]


def test_parquet_rows_with_nulls_or_other_lengths_are_told(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"x": pa.array([[1, 2], None, [1], [3, 4]], pa.list_(pa.float32()))}), file)
    (block,) = read_all(file, [InputSpec(TensorSpec("x", "FP32", (-1, 2)))], 100)
    assert block.groups[0].rows == (0, 3)
    assert [row.row for row in block.unreadable] == [1, 2]


def test_what_is_no_parquet_file_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "in.parquet").write_bytes(b"no")
    with pytest.raises(InvalidInputError, match="is no Parquet file"):
        read_all(tmp_path / "in.parquet", [IMAGE], 1)
    with pytest.raises(WrongUseError, match="No such file or directory"):
        read_all(tmp_path / "none.parquet", [IMAGE], 1)

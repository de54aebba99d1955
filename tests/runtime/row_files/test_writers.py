"""Writers: whatever the batches, and however often writing was broken off, the file is the same and reads back."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import WrongUseError
from runtime.row_files.block import InputSpec
from runtime.row_files.opening import FORMATS, make_writer, open_rows
from runtime.tensors import Array, TensorSpec

ROWS = 40
OUTPUTS = {
    "scores": np.random.default_rng(2).standard_normal((ROWS, 3)).astype(np.float32),
    "best": np.arange(ROWS, dtype=np.int64),
}
NAMES = [f"{n}.png" for n in range(ROWS)]


def outputs_for(suffix: str) -> dict[str, Array]:
    return {"scores": OUTPUTS["scores"]} if suffix == ".npy" else OUTPUTS


def write(folder: Path, suffix: str, step: int, target: Path, break_off_at: int | None = None) -> bytes:
    """Rows in batches of `step`; a writer that broke off after some more rows is followed by one that goes on."""
    folder.mkdir()
    outputs = outputs_for(suffix)
    writer, kept = make_writer(suffix, folder, None), None
    for first in range(0, ROWS, step):
        chunk = {name: value[first : first + step] for name, value in outputs.items()}
        if first == break_off_at:
            kept = json.loads(json.dumps(writer.sync()))
            writer.write(chunk, NAMES[first : first + step])  # lost: nobody kept a state after it
            writer.close()
            writer = make_writer(suffix, folder, kept)
        writer.write(chunk, NAMES[first : first + step])
    writer.finish(target)
    writer.close()
    return target.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_bytes_depend_on_the_rows_alone(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    written = {
        write(tmp_path / f"{step}-{at}", suffix, step, tmp_path / f"out-{step}-{at}{suffix}", at)
        for step, at in [(40, None), (7, None), (8, 16), (1, 39), (5, 0)]
    }
    assert len(written) == 1


@pytest.mark.parametrize("suffix", FORMATS)
def test_it_reads_back(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"out{suffix}"
    write(tmp_path / "parts", suffix, 7, file)
    match suffix:
        case ".npy":
            np.testing.assert_array_equal(np.load(file), OUTPUTS["scores"])
            return
        case ".npz":
            with np.load(file) as stored:
                read = {name: stored[name] for name in stored.files}
        case ".jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            read = {name: np.array([line[name] for line in lines]) for name in lines[0]}
        case ".csv":
            with file.open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            read = {
                "file": np.array([row["file"] for row in rows]),
                "scores": np.array([[row[f"scores.{i}"] for i in range(3)] for row in rows], np.float32),
                "best": np.array([row["best"] for row in rows], np.int64),
            }
        case _:
            import pyarrow.parquet as parquet

            table = parquet.read_table(file)
            read = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    assert read["file"].tolist() == NAMES
    np.testing.assert_array_equal(read["best"], OUTPUTS["best"])
    np.testing.assert_array_equal(read["scores"].astype(np.float32), OUTPUTS["scores"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_reader_of_a_format_reads_what_its_writer_wrote(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"out{suffix}"
    write(tmp_path / "parts", suffix, 7, file)
    with open_rows(file, "m", [InputSpec(TensorSpec("scores", "FP32", (-1, 3)))]) as rows:
        block = rows.read(ROWS)
    assert block is not None
    np.testing.assert_array_equal(block.groups[0].inputs["scores"], OUTPUTS["scores"])


def test_a_format_that_there_is_not_has_neither_reader_nor_writer(tmp_path: Path) -> None:
    (tmp_path / "in.feather").write_bytes(b"")
    with (
        pytest.raises(WrongUseError, match="'.feather'; expected one of .npz, .npy"),
        open_rows(tmp_path / "in.feather", "m", []),
    ):
        pass
    with pytest.raises(WrongUseError, match="'.feather'; expected one of .npz, .npy"):
        make_writer(".feather", tmp_path, None)


def test_what_an_array_file_cannot_hold_is_said(tmp_path: Path) -> None:
    npy = make_writer(".npy", tmp_path, None)
    with pytest.raises(WrongUseError, match="holds one array"):
        npy.write(OUTPUTS, None)
    npz = make_writer(".npz", tmp_path, None)
    with pytest.raises(WrongUseError, match="is BYTES"):
        npz.write({"text": np.array([b"a"], dtype=np.object_)}, None)
    npz.write({"x": np.zeros((2, 3))}, None)
    with pytest.raises(WrongUseError, match="rows of one shape"):
        npz.write({"x": np.zeros((2, 4))}, None)
    npz.close()

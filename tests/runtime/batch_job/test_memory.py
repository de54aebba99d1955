"""A batch job takes as much memory for many rows as for few, in every format: a process each, its peak as the kernel counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from tests.programs import ROOT, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FEW, MANY = 4_000, 40_000
"""As numbers in memory the difference is 9 MB for the images alone; whoever reads it all at once holds several times that."""
MORE_MB = 6.0
"""What buffers, the allocator and garbage not yet collected may differ by."""
MORE_MB_OF_IMAGES = 4.0
"""The same where nothing but names could be held."""

CHILD = """
import sys
from pathlib import Path
import edgeward
from runtime.engine.watch_settings import WatchSettings
from runtime.row_files import parquet_writer
from runtime.batch_job.job import BatchJob, run_batch
from runtime.batch_job.predictor import LocalPredictor

# A row group waits in memory until it is full, 16 MB at most; these are full early, in both files.
parquet_writer.GROUP_ROWS = 2000
with edgeward.load("digits", edgeward.EngineSettings(watch=WatchSettings(0, 0))) as model:
    done = run_batch(BatchJob(Path(sys.argv[1]), Path(sys.argv[2])), LocalPredictor(model))
# Not getrusage: what the process that started this one had at that moment counts there too.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(done.rows, peak.split()[1])
"""


def as_npz(file: Path, images: np.ndarray) -> None:
    np.savez(file, image=images)


def as_csv(file: Path, images: np.ndarray) -> None:
    flat = images.reshape(len(images), -1)
    names = ",".join(f"image.{at}" for at in range(flat.shape[1]))
    np.savetxt(file, flat, "%.4f", delimiter=",", header=names, comments="")


def as_json_lines(file: Path, images: np.ndarray) -> None:
    file.write_text("".join(json.dumps({"image": row}) + "\n" for row in images.round(4).tolist()))


def as_parquet(file: Path, images: np.ndarray) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    flat = images.reshape(len(images), -1)
    columns = {f"image.{at}": flat[:, at] for at in range(flat.shape[1])}
    parquet.write_table(pyarrow.table(columns), file, row_group_size=2000)


FORMATS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".npy": np.save,
    ".npz": as_npz,
    ".csv": as_csv,
    ".jsonl": as_json_lines,
    ".parquet": as_parquet,
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process's peak in /proc")
@pytest.mark.parametrize("suffix", FORMATS)
def test_ten_times_the_rows_take_no_more_memory(
    suffix: str, tmp_path: Path, digits: Bundle, calibrated_home: Path
) -> None:
    samples = digits.samples()
    assert samples is not None
    peaks_mb = []
    for rows in (FEW, MANY):
        images = np.resize(samples.inputs["image"], (rows, *samples.inputs["image"].shape[1:]))
        file = tmp_path / f"in-{rows}{suffix}"
        FORMATS[suffix](file, images)
        peaks_mb.append(peak_mb(file, tmp_path / f"out-{rows}{suffix}", rows, calibrated_home))
    assert peaks_mb[1] - peaks_mb[0] < MORE_MB, peaks_mb


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process's peak in /proc")
def test_ten_times_the_images_take_no_more_memory(tmp_path: Path, calibrated_home: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one.png")
    peaks_mb = []
    for rows in (FEW // 2, MANY // 2):
        folder = tmp_path / f"in-{rows}"
        folder.mkdir()
        # One file under many names, and long ones: 4 MB of letters more, and 8 MB where they are held (seen of an earlier version).
        for number in range(rows):
            os.link(tmp_path / "one.png", folder / f"{number:0220}.png")
        peaks_mb.append(peak_mb(folder, tmp_path / f"out-{rows}.npz", rows, calibrated_home))
    assert peaks_mb[1] - peaks_mb[0] < MORE_MB_OF_IMAGES, peaks_mb


def peak_mb(source: Path, output: Path, rows: int, home: Path) -> float:
    words = [sys.executable, "-c", CHILD, os.fspath(source), os.fspath(output)]
    done = subprocess.run(words, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    answered, peak_kb = map(int, done.stdout.split())
    assert answered == rows
    return peak_kb / 1024

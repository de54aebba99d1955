"""Batch jobs: the same bytes after kills, bad rows apart, one process an output, and nothing half done in its place."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.batch_job.checkpoint import WorkFolder
from runtime.batch_job.job import BatchJob, Progress, run_batch
from runtime.batch_job.predictor import RemotePredictor, patiently
from runtime.bundle.bundle import Bundle
from runtime.errors import (
    CancelledError,
    ConflictError,
    ExecutionError,
    InvalidInputError,
    PeerUnreachableError,
    StorageError,
    WrongUseError,
)
from runtime.row_files.block import InputSpec
from runtime.tensors import Array, TensorSpec
from runtime.wire.values import ModelDescription
from tests.programs import ROOT, environment


@dataclass
class Doubler:
    """y = 2 x; fails on rows with a negative number, as an engine does on the whole batch."""

    identity: str = "doubler 1"
    name: str = "doubler"
    version: str = "1"
    serving: str = "here"
    inputs: tuple[InputSpec, ...] = (InputSpec(TensorSpec("x", "FP32", (-1, 2))),)
    batch_rows: int = 4
    calls: list[int] = field(default_factory=list)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise ExecutionError("a negative number")
        return {"y": inputs["x"] * 2}


@pytest.fixture
def job(tmp_path: Path) -> BatchJob:
    np.save(tmp_path / "in.npy", np.arange(44, dtype=np.float32).reshape(22, 2))
    return BatchJob(tmp_path / "in.npy", tmp_path / "out.csv", checkpoint_every_s=0)


def left_over(job: BatchJob) -> list[str]:
    return sorted(path.name for path in job.output.parent.iterdir())


def test_rows_come_out_in_order_and_nothing_else_is_left(job: BatchJob) -> None:
    seen: list[Progress] = []
    done = run_batch(job, Doubler(), seen.append)
    assert (done.rows, done.unreadable, done.resumed_at) == (22, 0, 0)
    lines = job.output.read_text().splitlines()
    assert (lines[0], lines[1], lines[22]) == ("y.0,y.1", "0.0,2.0", "84.0,86.0")
    assert left_over(job) == ["in.npy", "out.csv"]
    assert seen[-1] == Progress(22, 22, 0)


def test_rows_the_model_fails_on_are_told_and_the_rest_is_done(job: BatchJob) -> None:
    rows = np.load(job.input)
    rows[5] = rows[17] = -1
    np.save(job.input, rows)
    done = run_batch(job, Doubler())
    assert (done.rows, done.unreadable, done.errors_file) == (20, 2, job.errors_file)
    told = [json.loads(line) for line in job.errors_file.read_text().splitlines()]
    assert told == [{"row": 5, "reason": "a negative number"}, {"row": 17, "reason": "a negative number"}]
    # Mended, run again: the errors of yesterday are gone.
    rows[5] = rows[17] = 0
    np.save(job.input, rows)
    assert run_batch(job, Doubler()).rows == 22
    assert left_over(job) == ["in.npy", "out.csv"]


def test_rows_with_nan_or_out_of_range_are_answered_and_told(job: BatchJob) -> None:
    rows = np.load(job.input)  # 0 to 43
    rows[5, 1] = np.nan
    rows[9] = np.inf
    np.save(job.input, rows)
    ranged = Doubler(inputs=(InputSpec(TensorSpec("x", "FP32", (-1, 2)), (0.0, 30.0)),))
    # Broken off in the middle: what was counted before is not forgotten.
    with pytest.raises(CancelledError):
        run_batch(job, ranged, should_stop=lambda: len(ranged.calls) == 4)
    done = run_batch(job, ranged)
    assert (done.rows, done.unreadable, done.non_finite, done.out_of_range) == (22, 0, 2, 7)
    assert done.first_out_of_range == "row 15: input 'x' goes from 30 to 31, the manifest says 0 to 30"
    assert done.errors_file == job.errors_file
    told = [json.loads(line) for line in job.errors_file.read_text().splitlines()]
    assert told == [
        {"row": 5, "reason": "input 'x' holds 1 value of NaN or infinity", "is_answered": True},
        {"row": 9, "reason": "input 'x' holds 2 values of NaN or infinity", "is_answered": True},
    ]
    assert len(job.output.read_text().splitlines()) == 23


def test_a_file_of_nothing_but_bad_rows_is_an_error_and_writes_nothing(job: BatchJob) -> None:
    np.save(job.input, np.full((8, 2), -1, np.float32))
    with pytest.raises(InvalidInputError, match="none of the 8 rows .* the first: a negative number"):
        run_batch(job, Doubler())
    assert not job.output.exists()


def test_stopped_and_run_again_it_goes_on_where_it_was(job: BatchJob) -> None:
    whole = run_whole(job)
    first = Doubler()
    with pytest.raises(CancelledError, match="stopped after 12 rows"):
        run_batch(job, first, should_stop=lambda: len(first.calls) == 3)
    second = Doubler(batch_rows=9)  # measured otherwise meanwhile: the rows of a call stay as they were
    done = run_batch(job, second)
    assert (done.resumed_at, second.calls) == (12, [4, 4, 2])
    assert job.output.read_bytes() == whole


def test_a_folder_that_holds_the_output_too_is_gone_on_with_and_a_new_image_starts_over(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for number in range(10):
        image.fromarray(np.full((1, 2), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "7.png").write_bytes(b"broken")
    pixels = (InputSpec(TensorSpec("x", "UINT8", (-1, 1, 2, 1))),)
    job = BatchJob(tmp_path, tmp_path / "out.jsonl", checkpoint_every_s=0)
    for is_changed in (False, True):
        first = Doubler(inputs=pixels, batch_rows=3)
        with pytest.raises(CancelledError):
            run_batch(job, first, should_stop=lambda first=first: len(first.calls) == 2)
        if is_changed:
            image.fromarray(np.zeros((1, 2), np.uint8)).save(tmp_path / "10.png")
        done = run_batch(job, Doubler(inputs=pixels, batch_rows=3))
        assert (done.resumed_at, done.rows, done.unreadable) == ((0, 10, 1) if is_changed else (6, 9, 1))
    rows = [json.loads(line) for line in job.output.read_text().splitlines()]
    assert [row["file"] for row in rows] == ["0.png", "1.png", "10.png", *(f"{n}.png" for n in (2, 3, 4, 5, 6, 8, 9))]
    assert [row["y"][0][0][0] for row in rows] == [0, 2, 0, 4, 6, 8, 10, 12, 16, 18]
    (told,) = [json.loads(line) for line in job.errors_file.read_text().splitlines()]
    assert (told["row"], told["where"]) == (8, "7.png")


@pytest.mark.parametrize("change", ["model", "input", "asked"])
def test_what_changed_since_starts_over(job: BatchJob, change: str) -> None:
    first = Doubler()
    with pytest.raises(CancelledError):
        run_batch(job, first, should_stop=lambda: len(first.calls) == 3)
    second = Doubler(identity="doubler 2") if change == "model" else Doubler()
    if change == "input":
        np.save(job.input, np.ones((6, 2), np.float32))
    fresh = BatchJob(job.input, job.output, is_fresh=change == "asked")
    assert run_batch(fresh, second).resumed_at == 0
    assert left_over(job) == ["in.npy", "out.csv"]


def test_two_processes_do_not_share_an_output(job: BatchJob) -> None:
    with WorkFolder(job.output).taken(), pytest.raises(ConflictError, match="another process works on this output"):
        run_batch(job, Doubler())


def test_the_output_is_never_the_input(job: BatchJob) -> None:
    with pytest.raises(WrongUseError, match="same file"):
        run_batch(BatchJob(job.input, job.input), Doubler())


def test_a_job_that_was_killed_while_it_put_its_output_in_place_is_done(job: BatchJob) -> None:
    whole = run_whole(job)
    first = Doubler()
    job.output.mkdir()  # its place is taken by a folder: packed, but not placed
    with pytest.raises(StorageError, match="cannot be written"):
        run_batch(job, first)
    job.output.rmdir()
    second = Doubler()
    assert run_batch(job, second).rows == 22
    assert second.calls == []
    assert job.output.read_bytes() == whole


def test_a_server_is_named_by_its_address_and_those_who_answered() -> None:
    class Server:
        def model(self, name: str) -> ModelDescription:
            return ModelDescription(name, ("3",), "x", (TensorSpec("x", "FP32", (-1, 2)),), (), 8)

        def predict(self, model: str, inputs: Mapping[str, Array], **_: str) -> SimpleNamespace:
            who = "cloud" if inputs["x"][0, 0] else "edge"
            return SimpleNamespace(outputs={"y": inputs["x"]}, parameters={"served_by": who, "backend": "fp32 on x"})

    remote = RemotePredictor(Server(), "m", "auto", "127.0.0.1:8001")
    assert remote.serving == "127.0.0.1:8001, route auto"
    remote.predict({"x": np.zeros((5, 2), np.float32)})
    assert remote.serving == "127.0.0.1:8001, route auto, answered by edge: fp32 on x"
    remote.predict({"x": np.ones((2, 2), np.float32)})
    assert remote.serving.endswith("answered by edge: fp32 on x (5 rows); cloud: fp32 on x (2 rows)")


def test_patience_ends_and_does_not_begin_for_what_never_comes() -> None:
    pauses: list[float] = []
    answers = iter([PeerUnreachableError("away"), PeerUnreachableError("away"), None])

    def ask() -> dict[str, Array]:
        error = next(answers)
        if error is not None:
            raise error
        return {}

    assert patiently(ask, pause=pauses.append) == {}
    assert pauses == [0.2, 0.4]
    with pytest.raises(PeerUnreachableError):
        patiently(lambda: (_ for _ in ()).throw(PeerUnreachableError("away")), patience_s=0, pause=pauses.append)
    with pytest.raises(ExecutionError):
        patiently(lambda: (_ for _ in ()).throw(ExecutionError("broken")), pause=pauses.append)
    assert len(pauses) == 2


def run_whole(job: BatchJob) -> bytes:
    run_batch(job, Doubler())
    whole = job.output.read_bytes()
    job.output.unlink()
    return whole


KILLED = """
import sys
from pathlib import Path
from runtime.batch_job.job import BatchJob, run_batch
from tests.runtime.batch_job.test_job import Doubler

job = BatchJob(Path(sys.argv[1]), Path(sys.argv[2]), checkpoint_every_s=0)
run_batch(job, Doubler(), lambda stand: print(stand, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_killed_at_random_points_and_run_again_it_writes_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / "in.jsonl"
    rows = [json.dumps(row) for row in np.random.default_rng(1).random((400, 2)).tolist()]
    rows[7] = "broken"
    file.write_text("\n".join(rows))
    out = tmp_path / f"out{suffix}"
    with start(file, out) as process:
        process.communicate(timeout=100)
    assert process.returncode == 0
    whole, errors = out.read_bytes(), (tmp_path / f"out{suffix}.errors.jsonl").read_bytes()
    out.unlink()
    chance = random.Random(suffix)
    for _ in range(4):
        with start(file, out) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 20)):  # batches that it lives to see
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()
    with start(file, out) as process:
        told, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert len(told.splitlines()) < 100, "it went on where it was"
    assert out.read_bytes() == whole
    assert (tmp_path / f"out{suffix}.errors.jsonl").read_bytes() == errors
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["in.jsonl", out.name, f"{out.name}.errors.jsonl"]
    )


KILLED_ON_A_BUNDLE = """
import sys
from pathlib import Path
import edgeward
from runtime.batch_job.job import BatchJob, run_batch
from runtime.batch_job.predictor import LocalPredictor
from runtime.engine.watch_settings import WatchSettings

job = BatchJob(Path(sys.argv[1]), Path(sys.argv[2]), checkpoint_every_s=0)
with edgeward.load("digits", edgeward.EngineSettings(watch=WatchSettings(0, 0))) as model:
    run_batch(job, LocalPredictor(model), lambda stand: print(stand, flush=True))
"""


@pytest.mark.slow
def test_killed_on_a_real_bundle_it_writes_the_same_bytes(
    tmp_path: Path, digits: Bundle, calibrated_home: Path
) -> None:
    samples = digits.samples()
    assert samples is not None
    file, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(file, image=np.resize(samples.inputs["image"], (4000, *samples.inputs["image"].shape[1:])))

    def begun() -> subprocess.Popen[str]:
        return start(file, out, KILLED_ON_A_BUNDLE, calibrated_home)

    with begun() as process:
        batches = len(process.communicate(timeout=100)[0].splitlines())
    assert process.returncode == 0
    whole = out.read_bytes()
    assert np.load(out)["probabilities"].shape == (4000, 10)
    out.unlink()
    chance = random.Random(3)
    for _ in range(3):
        with begun() as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, batches // 4)):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert not out.exists()
    with begun() as process:
        told, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert len(told.splitlines()) < batches, "it went on where it was"
    assert out.read_bytes() == whole


def start(file: Path, out: Path, program: str = KILLED, home: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, os.fspath(file), os.fspath(out)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(home or out.parent), stdout=subprocess.PIPE, text=True)

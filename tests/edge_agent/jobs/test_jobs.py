"""Submitted jobs: only inside allowed folders, one after another, ended between two batches, and gone on with after a restart."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.jobs import runner
from edge_agent.jobs.board import JobBoard, JobState
from edge_agent.jobs.folders import inside
from edge_agent.jobs.jobs import Jobs
from runtime.errors import ExecutionError, InvalidInputError, ModelNotFoundError, StorageError, UnsupportedError
from runtime.tensors import TensorSpec
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription

PATIENCE_S = 20.0
X = TensorSpec("x", "FP32", (-1, 2))


class Service:
    """y = 2 x; each batch waits for leave while `gate` is set."""

    def __init__(self) -> None:
        self.gate: threading.Semaphore | None = None
        self.asked: list[InferenceRequest] = []
        self.error: Exception | None = None

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        if name != "m":
            raise ModelNotFoundError(f"no model {name!r}")
        return ModelDescription("m", ("1",), "here", (X,), (TensorSpec("y", "FP32", (-1, 2)),), 4)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        if self.gate is not None:
            await asyncio.to_thread(self.gate.acquire)
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return InferenceResponse("m", "1", {"y": request.inputs["x"] * 2})


class Stuck(Service):
    """The same, but the request of that number is never answered."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.is_stuck = asyncio.Event()
        self.is_withdrawn = False

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        if len(self.asked) + 1 == self.number:
            self.is_stuck.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.is_withdrawn = True
                raise
        return await super().infer(request)


class Pictures(Service):
    """The same for grey pictures of two by two."""

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        pixels = TensorSpec("x", "UINT8", (-1, 2, 2, 1))
        return ModelDescription("m", ("1",), "here", (pixels,), (TensorSpec("y", "UINT8", (-1, 2, 2, 1)),), 4)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse("m", "1", {"y": request.inputs["x"]})


class Engine:
    def model(self, name: str) -> Any:
        raise ModelNotFoundError("only the cloud has it")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", np.arange(40, dtype=np.float32).reshape(20, 2))
    return tmp_path / "in.npy"


async def ended(jobs: Jobs, number: int) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while (job := await asyncio.to_thread(jobs.find, number)).state in (JobState.QUEUED, JobState.RUNNING):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return job


async def test_a_job_runs_through_the_service_behind_everybody_else(rows: Path, tmp_path: Path) -> None:
    service = Service()
    jobs = Jobs(tmp_path / "jobs.db", service, Engine(), [tmp_path])  # type: ignore[arg-type]
    job = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out.npy", "auto")
    done = await ended(jobs, job.id)
    assert (done.state, done.rows_done, done.rows_total, done.error) == (JobState.DONE, 20, 20, None)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(rows) * 2)
    assert [len(request.inputs["x"]) for request in service.asked] == [4] * 5
    assert service.asked[0].parameters == {"route": "auto", "priority": 2**32 - 1}
    await asyncio.to_thread(jobs.close)


async def test_a_job_that_fails_says_why_and_the_next_one_runs(rows: Path, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.db", Service(), Engine(), [tmp_path])  # type: ignore[arg-type]
    bad = await asyncio.to_thread(jobs.submit, "nobody", rows, tmp_path / "a.npy", "auto")
    good = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "b.npy", "edge")
    failed = await ended(jobs, bad.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "no model 'nobody'")
    assert (await ended(jobs, good.id)).state is JobState.DONE
    assert await asyncio.to_thread(jobs.describe) == {"failed": 1, "done": 1}
    await asyncio.to_thread(jobs.close)


async def test_a_restart_goes_on_where_it_was(rows: Path, tmp_path: Path) -> None:
    service = Service()
    service.gate = threading.Semaphore(2)
    jobs = Jobs(tmp_path / "jobs.db", service, Engine(), [tmp_path])  # type: ignore[arg-type]
    job = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out.npy", "auto")
    async with asyncio.timeout(PATIENCE_S):
        while len(service.asked) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    jobs.interrupt()
    service.gate.release()  # the batch under way is answered, then the runner ends
    await asyncio.to_thread(jobs.close)
    assert not (tmp_path / "out.npy").exists()
    before = len(service.asked)
    service.gate = None
    again = Jobs(tmp_path / "jobs.db", service, Engine(), [tmp_path])  # type: ignore[arg-type]
    await asyncio.to_thread(again.start)
    assert (await ended(again, job.id)).state is JobState.DONE
    assert len(service.asked) - before == 5 - before, "what was done is not asked again"
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(rows) * 2)
    await asyncio.to_thread(again.close)


async def test_a_board_that_cannot_be_opened_is_told_and_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "jobs.db").mkdir()
    jobs = Jobs(tmp_path / "jobs.db", Service(), Engine(), [tmp_path])  # type: ignore[arg-type]
    await asyncio.to_thread(jobs.start)
    assert "cannot be read, so they wait" in caplog.text
    assert "unable to open database file" in str((await asyncio.to_thread(jobs.describe))["error"])
    await asyncio.to_thread(jobs.close)


async def test_jobs_whose_board_could_not_be_opened_go_on_once_it_can(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOOK_EVERY_S", 0.01)
    board = JobBoard(tmp_path / "kept.db")
    board.add("m", rows, tmp_path / "out.npy", "auto")
    board.close()
    (tmp_path / "jobs.db").write_bytes(b"no database" * 100)
    jobs = Jobs(tmp_path / "jobs.db", Service(), Engine(), [tmp_path])  # type: ignore[arg-type]
    await asyncio.to_thread(jobs.start)
    (tmp_path / "kept.db").replace(tmp_path / "jobs.db")
    async with asyncio.timeout(PATIENCE_S):
        while not (tmp_path / "out.npy").exists():  # noqa: ASYNC110  (nobody asks for the jobs, or lists them)
            await asyncio.sleep(0.01)
    await asyncio.to_thread(jobs.close)


async def test_jobs_that_are_closed_are_not_opened_again(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").mkdir()
    jobs = Jobs(tmp_path / "jobs.db", Service(), Engine(), [tmp_path])  # type: ignore[arg-type]
    await asyncio.to_thread(jobs.start)
    await asyncio.to_thread(jobs.close)
    (tmp_path / "jobs.db").rmdir()
    with pytest.raises(StorageError, match="the agent ends"):
        await asyncio.to_thread(jobs.submit, "m", tmp_path / "in.npy", tmp_path / "out.npy", "auto")
    assert not (tmp_path / "jobs.db").exists()


async def test_a_batch_that_is_not_answered_holds_up_no_stop_and_is_asked_again(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ANSWERED_WITHIN_S", 0.05)
    service = Stuck(3)
    jobs = Jobs(tmp_path / "jobs.db", service, Engine(), [tmp_path])  # type: ignore[arg-type]
    job = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out.npy", "auto")
    async with asyncio.timeout(PATIENCE_S):
        await service.is_stuck.wait()
    jobs.interrupt()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(jobs.close)
    assert service.is_withdrawn
    assert not (tmp_path / "out.npy").exists()
    again = Jobs(tmp_path / "jobs.db", Service(), Engine(), [tmp_path])  # type: ignore[arg-type]
    await asyncio.to_thread(again.start)
    assert (await ended(again, job.id)).state is JobState.DONE
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(rows) * 2)
    await asyncio.to_thread(again.close)


async def test_a_cancelled_job_ends_between_two_batches(rows: Path, tmp_path: Path) -> None:
    service = Service()
    service.gate = threading.Semaphore(1)
    jobs = Jobs(tmp_path / "jobs.db", service, Engine(), [tmp_path])  # type: ignore[arg-type]
    job = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out.npy", "auto")
    waiting = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out2.npy", "auto")
    assert await asyncio.to_thread(jobs.cancel, waiting.id)
    assert await asyncio.to_thread(jobs.cancel, job.id)
    assert not await asyncio.to_thread(jobs.cancel, job.id)
    service.gate.release(10)
    await asyncio.to_thread(jobs.close)
    assert not (tmp_path / "out.npy").exists()
    assert not (tmp_path / "out2.npy").exists()


async def test_to_cancel_a_job_that_is_not_there_yet_changes_nothing(rows: Path, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.db", Service(), Engine(), [tmp_path])  # type: ignore[arg-type]
    first = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out.npy", "auto")
    assert not await asyncio.to_thread(jobs.cancel, first.id + 1)
    second = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out2.npy", "auto")
    assert (await ended(jobs, second.id)).state is JobState.DONE
    await asyncio.to_thread(jobs.close)


async def test_an_engine_that_fails_on_every_row_fails_the_job(rows: Path, tmp_path: Path) -> None:
    service = Service()
    service.error = ExecutionError("broken")
    jobs = Jobs(tmp_path / "jobs.db", service, Engine(), [tmp_path])  # type: ignore[arg-type]
    job = await asyncio.to_thread(jobs.submit, "m", rows, tmp_path / "out.npy", "auto")
    failed = await ended(jobs, job.id)
    assert failed.state is JobState.FAILED
    assert "none of the 20 rows" in failed.error
    await asyncio.to_thread(jobs.close)


def test_what_ran_when_the_process_ended_is_queued_again(rows: Path, tmp_path: Path) -> None:
    board = JobBoard(tmp_path / "jobs.db")
    job = board.add("m", rows, tmp_path / "out.npy", "auto")
    assert board.take() is not None
    with pytest.raises(InvalidInputError, match=f"job {job.id} writes .* already"):
        board.add("m", rows, tmp_path / "out.npy", "auto")
    board.close()
    again = JobBoard(tmp_path / "jobs.db")
    taken = again.take()
    assert taken is not None
    assert taken.id == job.id
    again.close()


async def test_links_lead_a_job_nowhere_else(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="images need Pillow")
    allowed, other = tmp_path / "data", tmp_path / "secret"
    for folder in (allowed / "pictures", allowed / "more", other):
        folder.mkdir(parents=True)
    for at, name in enumerate([allowed / "pictures" / "a.png", allowed / "more" / "b.png", other / "c.png"]):
        image.fromarray(np.full((2, 2), 10 * at, np.uint8)).save(name)
    (allowed / "pictures" / "b.png").symlink_to(allowed / "more" / "b.png")
    (allowed / "pictures" / "c.png").symlink_to(other / "c.png")
    np.save(other / "in.npy", np.zeros((2, 2), np.float32))
    np.save(allowed / "in.npy", np.zeros((2, 2), np.float32))
    service = Pictures()
    jobs = Jobs(tmp_path / "jobs.db", service, Engine(), [allowed])  # type: ignore[arg-type]
    job = await asyncio.to_thread(jobs.submit, "m", allowed / "pictures", allowed / "out.npy", "auto")
    assert (await ended(jobs, job.id)).rows_unreadable == 1
    np.testing.assert_array_equal(np.load(allowed / "out.npy")[:, 0, 0, 0], [0, 10])
    told = json.loads((allowed / "out.npy.errors.jsonl").read_text())
    assert (told["where"], told["reason"].partition(";")[0]) == (
        "c.png",
        "the image is a link out of the folders that may be read",
    )
    # A file that became a link while its job waited.
    (allowed / "in.npy").unlink()
    (allowed / "in.npy").symlink_to(other / "in.npy")
    job = await asyncio.to_thread(jobs.submit, "m", allowed / "in.npy", allowed / "out2.npy", "auto")
    failed = await ended(jobs, job.id)
    assert failed.state is JobState.FAILED
    assert "outside the folders that jobs may use" in failed.error
    await asyncio.to_thread(jobs.close)


def test_paths_stay_inside_the_folders_that_are_allowed(tmp_path: Path) -> None:
    allowed, other = tmp_path / "data", tmp_path / "secret"
    allowed.mkdir()
    other.mkdir()
    (other / "in.npy").touch()
    (allowed / "link.npy").symlink_to(other / "in.npy")
    (allowed / "door").symlink_to(other)
    assert inside(str(allowed / "out.npy"), [allowed], "output") == (allowed / "out.npy").resolve()
    assert inside(str(allowed), [allowed], "input") == allowed.resolve()
    for path in (other / "in.npy", allowed / ".." / "secret" / "in.npy", allowed / "link.npy", allowed / "door" / "x"):
        with pytest.raises(InvalidInputError, match="outside the folders that jobs may use"):
            inside(str(path), [allowed], "input")
    with pytest.raises(InvalidInputError, match="no absolute path"):
        inside("in.npy", [allowed], "input")
    with pytest.raises(InvalidInputError, match="cannot be found"):
        inside(str(allowed / "nowhere" / "x.npy"), [allowed], "output")
    with pytest.raises(UnsupportedError, match="EDGEWARD_JOB_FOLDERS=.data"):
        inside(str(allowed), [], "input")

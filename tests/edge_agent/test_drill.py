"""The failure drill follows its file."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.drill import MAX_TEXT_BYTES, Drill, stalled
from runtime.errors import DeadlineExceededError, ExecutionError
from runtime.serving.asking import Answer, Withdraw
from runtime.wire.values import InferenceRequest, InferenceResponse


def test_it_fails_only_while_the_file_exists(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    drill = Drill(file)
    drill.check()
    file.write_text("the GPU fell out\n")
    with pytest.raises(ExecutionError, match="^drill: the GPU fell out$"):
        drill.check()
    file.unlink()
    drill.check()


def test_an_empty_file_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.touch()
    with pytest.raises(ExecutionError, match="remove it to end the drill"):
        Drill(file).check()


def test_only_the_beginning_of_a_large_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.write_bytes(b"x" * 100_000 + b"\xff")
    with pytest.raises(ExecutionError) as caught:
        Drill(file).check()
    assert len(str(caught.value)) < MAX_TEXT_BYTES + 20


def test_a_folder_in_its_place_is_a_drill_too(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="cannot be read"):
        Drill(tmp_path).check()


@pytest.mark.parametrize(("text", "stall_s"), [("stall 0.25", 0.25), ("stall 2\n", 2.0), ("stall -1", 0.0)])
def test_a_file_that_says_stall_makes_runs_late_instead_of_failing(tmp_path: Path, text: str, stall_s: float) -> None:
    file = tmp_path / "drill"
    assert Drill(file).check() == 0.0
    file.write_text(text)
    assert Drill(file).check() == stall_s


def test_a_stall_of_no_number_is_a_text_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "drill"
    file.write_text("stall the engine")
    with pytest.raises(ExecutionError, match="drill: stall the engine"):
        Drill(file).check()


class Asked:
    """Answers at the next turn, or refuses what comes too late; and keeps who was withdrawn."""

    def __init__(self) -> None:
        self.begun = 0
        self.withdrawn = 0
        self.told: asyncio.Queue[tuple[InferenceResponse | None, BaseException | None]] = asyncio.Queue()

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        self.begun += 1
        if request.deadline is not None and request.deadline <= time.monotonic():
            raise DeadlineExceededError("the deadline has passed")
        if "hold" not in request.parameters:
            asyncio.get_running_loop().call_soon(answer, InferenceResponse("m", "1", {}), None)
        return self._withdraw

    def answer(self, response: InferenceResponse | None, error: BaseException | None) -> None:
        self.told.put_nowait((response, error))

    def _withdraw(self) -> None:
        self.withdrawn += 1


def asked(deadline_s: float | None = None, **parameters: bool) -> InferenceRequest:
    deadline = None if deadline_s is None else time.monotonic() + deadline_s
    return InferenceRequest("m", {"x": np.zeros(1)}, parameters=parameters, deadline=deadline)


async def test_a_stalled_run_is_answered_after_its_stall() -> None:
    arm = Asked()
    stalled(arm.ask, 0.01)(asked(), arm.answer)
    assert arm.begun == 0
    response, error = await asyncio.wait_for(arm.told.get(), 10)
    assert response is not None
    assert error is None


async def test_a_stall_that_is_longer_than_the_time_left_ends_at_the_deadline() -> None:
    arm = Asked()
    stalled(arm.ask, 3600)(asked(0.02), arm.answer)
    response, error = await asyncio.wait_for(arm.told.get(), 10)
    assert response is None
    assert isinstance(error, DeadlineExceededError)


async def test_who_is_withdrawn_in_its_stall_never_begins_and_later_is_let_go() -> None:
    arm = Asked()
    stalled(arm.ask, 0.01)(asked(hold=True), arm.answer)()
    withdraw = stalled(arm.ask, 0.0)(asked(hold=True), arm.answer)
    await asyncio.sleep(0.05)
    assert (arm.begun, arm.withdrawn) == (1, 0)
    withdraw()
    assert (arm.begun, arm.withdrawn, arm.told.qsize()) == (1, 1, 0)

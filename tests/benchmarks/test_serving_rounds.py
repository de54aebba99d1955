"""Who runs when in a comparison of servers: a fake server whose clock is stopped and started."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import rounds
from benchmarks.serving.contestants import Contestant
from benchmarks.serving.exchange import WrongAnswerError
from benchmarks.serving.h2load import LoadError, LoadResult
from benchmarks.serving.rounds import Plan

PLAN = Plan(rounds=2, connections=(1,), has_raw=False, open_rounds=1)


class FakeProcess:
    """As `ServerProcess`, of no process."""

    def __init__(self, launch: Any, log: Path) -> None:
        self.is_running = True
        made.append(self)

    def wait_until(self, is_ready: Any, timeout_s: float) -> None:
        is_ready()

    def resume(self) -> None:
        self.is_running = True

    def suspend(self) -> None:
        self.is_running = False

    def cpu_s(self) -> float:
        return 0.0

    def memory_bytes(self) -> int:
        return 1

    def close(self) -> None:
        self.is_running = False


made: list[FakeProcess] = []


class Exchange:
    """Answers rightly `good` times."""

    is_grpc = False

    def __init__(self, good: int) -> None:
        self._good = good

    def check(self, port: int) -> int:
        self._good -= 1
        if self._good < 0:
            raise WrongAnswerError("not the model's")
        return 10


@pytest.mark.slow  # a pause after each turn lets connections close
@pytest.mark.parametrize("fails", ["load", "answer"])
def test_who_fails_is_suspended_while_others_are_measured(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.clear()
    running: list[int] = []

    def drive(exchange: Any, *given: object) -> Any:
        running.append(sum(process.is_running for process in made))
        if fails == "load" and exchange is bad:
            raise LoadError("no request was answered")
        return LoadResult(100, 1.0)

    def drive_open(*given: object) -> Any:
        running.append(sum(process.is_running for process in made))
        raise LoadError("no request was answered at a rate")

    monkeypatch.setattr(rounds, "ServerProcess", FakeProcess)
    monkeypatch.setattr(rounds, "free_ports", lambda count: [1] * count)
    monkeypatch.setattr(rounds, "drive", drive)
    monkeypatch.setattr(rounds, "drive_open", drive_open)
    bad: Any = Exchange(1_000 if fails == "load" else 1)
    exchanges: dict[str, Any] = {"one": Exchange(1_000), "bad": bad, "other": Exchange(1_000)}
    contestants = [Contestant(name, exchange, lambda *ports: None) for name, exchange in exchanges.items()]  # type: ignore[arg-type,return-value]
    outcome = rounds.measure(contestants, tmp_path, PLAN, tmp_path, lambda what, share: None)
    assert set(outcome.missing) == {"bad", "one at a fixed rate", "other at a fixed rate"}
    assert len(running) > 6
    assert set(running) == {1}, "each has the machine to itself"

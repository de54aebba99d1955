"""What may wait before a model is a setting, of every program that serves; what comes beyond is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.batching.cut import BatchPolicy
from runtime.config import load_settings
from runtime.errors import OverloadedError, WrongUseError
from runtime.serving.limits import MAX_QUEUED_BYTES, MAX_QUEUED_ROWS, QueueLimits
from runtime.serving.settings import ModelServerSettings
from tests.programs import started
from tests.runtime.serving.clients import Call, GrpcClient
from tests.runtime.serving.test_scheduler import ON_A_WORKER_S, Doubler, ask, scheduler

ROW_BYTES = 8
"""Of a row of the doubler: two float32."""


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def test_a_queue_that_holds_its_bytes_refuses_and_one_that_is_empty_takes_any(
    workers: ThreadPoolExecutor,
) -> None:
    model = Doubler()
    model.gate.clear()
    limits = QueueLimits(max_bytes=3 * ROW_BYTES)
    queue = scheduler(model, workers, ON_A_WORKER_S, BatchPolicy(8), limits)
    running = asyncio.ensure_future(ask(queue, 0, rows=5))  # finds the queue empty
    while not queue._running_until:  # noqa: ASYNC110  (the scheduler has no event for that)
        await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(ask(queue, at)) for at in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="24 bytes wait already, at most 24 may") as caught:
        await ask(queue, 9)
    assert caught.value.retry_after_s > 0
    model.gate.set()
    await asyncio.gather(running, *waiting)
    assert (queue.statistics.rejected, queue.waiting) == (1, (0, 0, 0))


def test_the_limits_are_settings(tmp_path: Path) -> None:
    def read(toml: str) -> QueueLimits:
        file = tmp_path / "settings.toml"
        file.write_text(toml)
        return load_settings(ModelServerSettings, file, environ={}).settings.queue_limits

    assert read("") == QueueLimits(MAX_QUEUED_ROWS, MAX_QUEUED_BYTES)
    assert read("max_queued_rows = 64\nmax_queued_bytes = 1024") == QueueLimits(64, 1024)
    told = load_settings(ModelServerSettings, environ={"EDGEWARD_MAX_QUEUED_ROWS": "64"})
    assert ("max_queued_rows", "64", "variable EDGEWARD_MAX_QUEUED_ROWS") in told.describe()
    for wrong in ("max_queued_rows = 0", "max_queued_bytes = -1"):
        with pytest.raises(WrongUseError, match="greater than or equal to 1"):
            read(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("program", [("serve",), ("agent", "run"), ("gateway", "run")], ids=lambda words: words[0])
def test_every_program_follows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: tuple[str, ...]) -> None:
    flags = ("--max-queued-rows", "4") if program == ("serve",) else ()
    if not flags:
        monkeypatch.setenv("EDGEWARD_MAX_QUEUED_ROWS", "4")
    with started(tmp_path, *program, "digits", "--grpc-port", "0", "--http-port", "0", *flags) as running:
        client = GrpcClient(running.grpc)
        row = np.zeros((1, 1, 8, 8), np.float32)
        assert client.send(Call("digits", {"image": row})).status == "OK"
        told = client.send(Call("digits", {"image": np.repeat(row, 5, axis=0)}))
        client.close()
    assert told.status == "INVALID_ARGUMENT"
    assert "the request has 5 rows; model 'digits' takes at most 4" in told.text

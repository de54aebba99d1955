"""One execution a key, over retries at once, restarts and two gateways; another payload is refused."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.auth import caller
from cloud_gateway.idempotency import Idempotent
from cloud_gateway.owned_key import ResultLimits
from runtime.errors import ConflictError, DeadlineExceededError, ExecutionError, InvalidInputError
from runtime.store import sqlite_url
from runtime.wire.values import InferenceRequest, InferenceResponse


class Counter:
    """Answers with how often it was asked: two runs differ."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.runs += 1
        run = self.runs
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return InferenceResponse(request.model, "1", {"run": np.array([run])}, request.id, {"served_by": "cloud"})


def request(key: object = "k", value: float = 1.0, name: str = "", **parameters: Any) -> InferenceRequest:
    keyed = {} if key is None else {"idempotency_key": key}
    return InferenceRequest("m", {"x": np.array([value])}, id=name, parameters={**keyed, **parameters})


def run_of(response: InferenceResponse) -> int:
    return int(response.outputs["run"][0])


async def test_the_second_request_with_a_key_is_answered_with_the_first_ones_result(tmp_path: Path) -> None:
    counter = Counter()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))
    first = await once.infer(request(name="one"))
    # Another id, another way there: the same request.
    second = await once.infer(request(name="two", route="cloud", policy="cloud_only", idempotent=True, priority=3))
    assert (run_of(first), run_of(second), counter.runs) == (1, 1, 1)
    assert (first.id, second.id) == ("one", "two")
    assert "deduplicated" not in first.parameters
    assert second.parameters == {"served_by": "cloud", "deduplicated": True}
    assert run_of(await once.infer(request(None))) == 2
    await once.close()


async def test_another_payload_under_the_key_is_refused(tmp_path: Path) -> None:
    counter = Counter()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))
    await once.infer(request())
    for other in (request(value=2.0), request(temperature=1.0)):
        with pytest.raises(ConflictError, match="key 'k' was used for another request"):
            await once.infer(other)
    counter.gate = asyncio.Event()
    running = asyncio.create_task(once.infer(request("running")))
    await asyncio.sleep(0)
    with pytest.raises(ConflictError):
        await once.infer(request("running", 2.0))
    counter.gate.set()
    await running
    with pytest.raises(InvalidInputError, match="is 7; expected"):
        await once.infer(request(7))
    await once.close()


async def test_a_key_is_its_callers_own(tmp_path: Path) -> None:
    counter = Counter()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))

    async def ask(owner: str, value: float = 1.0) -> int:
        caller.set(owner)
        return run_of(await once.infer(request(value=value)))

    # As a transport does it: every request in a task of its own.
    runs = [await asyncio.create_task(ask(owner)) for owner in ("ann", "bob", "", "ann", "bob", "")]
    assert runs == [1, 2, 3, 1, 2, 3]
    with pytest.raises(ConflictError, match="key 'k' was used"):
        await asyncio.create_task(ask("ann", 2.0))
    assert await asyncio.create_task(ask("cleo", 2.0)) == 4
    counter.gate = asyncio.Event()
    together = [asyncio.create_task(ask(owner, 5.0)) for owner in ("dan", "eve")]
    while counter.runs < 6:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    counter.gate.set()
    assert sorted(await asyncio.gather(*together)) == [5, 6]
    await once.close()


async def test_requests_at_the_same_time_run_once(tmp_path: Path) -> None:
    counter = Counter()
    counter.gate = asyncio.Event()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))
    waiting = [asyncio.create_task(once.infer(request())) for _ in range(5)]
    await asyncio.sleep(0)
    counter.gate.set()
    assert {run_of(response) for response in await asyncio.gather(*waiting)} == {1}
    assert (counter.runs, once.deduplicated) == (1, 4)
    await once.close()


async def test_a_restarted_gateway_and_a_second_one_know_it(tmp_path: Path) -> None:
    first, second = Counter(), Counter()
    once = Idempotent(first.infer, sqlite_url(tmp_path / "results.db"))
    await once.infer(request())
    await once.close()
    again = Idempotent(second.infer, sqlite_url(tmp_path / "results.db"))
    assert run_of(await again.infer(request())) == 1
    assert second.runs == 0
    await again.close()


async def test_of_two_gateways_that_ran_it_the_first_to_write_wins(tmp_path: Path) -> None:
    slow, quick = Counter(), Counter()
    quick.runs = 10
    slow.gate = asyncio.Event()
    one, other = (Idempotent(counter.infer, sqlite_url(tmp_path / "results.db")) for counter in (slow, quick))
    waiting = asyncio.create_task(one.infer(request()))
    while not slow.runs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert run_of(await other.infer(request())) == 11
    slow.gate.set()
    assert run_of(await waiting) == 11
    await one.close()
    await other.close()


@pytest.mark.parametrize("end", ["withdrawn", "late"])
async def test_who_waits_for_a_request_that_does_not_end_runs_it_itself(tmp_path: Path, end: str) -> None:
    counter = Counter()
    counter.gate = asyncio.Event()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))
    first = asyncio.create_task(once.infer(request()))
    while not counter.runs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    waiting = [asyncio.create_task(once.infer(request())) for _ in range(3)]
    await asyncio.sleep(0)
    if end == "withdrawn":
        first.cancel()
    else:
        counter.error = DeadlineExceededError("the first one's deadline")
        counter.gate.set()
    with pytest.raises((asyncio.CancelledError, DeadlineExceededError)):
        await first
    counter.error = None
    counter.gate.set()
    assert {run_of(response) for response in await asyncio.gather(*waiting)} == {2}
    assert once.deduplicated == 2
    await once.close()


async def test_who_waits_keeps_its_own_deadline(tmp_path: Path) -> None:
    counter = Counter()
    counter.gate = asyncio.Event()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))
    first = asyncio.create_task(once.infer(request()))
    while not counter.runs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    with pytest.raises(DeadlineExceededError, match="the same key was still running"):
        await once.infer(replace(request(), deadline=time.monotonic() + 0.01))
    counter.gate.set()
    assert run_of(await first) == 1
    await once.close()


async def test_errors_are_not_kept(tmp_path: Path) -> None:
    counter = Counter()
    counter.error = ExecutionError("once")
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"))
    with pytest.raises(ExecutionError):
        await once.infer(request())
    counter.error = None
    assert run_of(await once.infer(request())) == 2
    await once.close()


async def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    counter = Counter()
    once = Idempotent(counter.infer, sqlite_url(tmp_path / "results.db"), ResultLimits(max_results=2))
    for key in ("a", "b", "c"):
        await once.infer(request(key))
    assert [run_of(await once.infer(request(key))) for key in ("b", "c", "a")] == [2, 3, 4]
    await once.close()

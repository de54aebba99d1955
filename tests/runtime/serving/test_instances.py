"""Several batches of one model at the same time: that they overlap, whose rows they carry, and what clients are told."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import Overlap, RunOptions, Session
from runtime.batching.cut import BatchPolicy
from runtime.config import load_settings
from runtime.engine.engine import Engine
from runtime.engine.instances import Instances
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy
from runtime.errors import InvalidInputError, OverloadedError, UnsupportedError, WrongUseError
from runtime.selection.settings import SelectionSettings
from runtime.serving.load_parameters import decode_overrides
from runtime.serving.local_service import LocalService
from runtime.serving.scheduler import Scheduler
from runtime.serving.settings import ModelServerSettings
from runtime.tensors import Array
from runtime.wire.model_config import config_json, encode_config
from runtime.wire.values import InferenceRequest
from tests.runtime.selection.fakes import CLASSES, FakeBackend, FakeSession, machine, make_bundle
from tests.runtime.serving.real import FIRST, SECOND, SELECTION, put_model

WAIT_S = 10.0
# Slower than what runs on the event loop itself.
SLOW = {"ref": {"ms": 1.0}}


class Meeting(FakeBackend):
    """Calls wait for each other at `barrier` once there is one; a session of its own for each call, where they may not share."""

    def __init__(self, overlap: Overlap) -> None:
        super().__init__()
        self.overlap = overlap
        self.barrier: threading.Barrier | None = None
        self.used: set[int] = set()

    def open(self, file: Path, options: RunOptions) -> Session:
        self.opened.append(file.name)
        return MeetingSession(self, json.loads(file.read_text()))


class MeetingSession(FakeSession):
    def __init__(self, backend: Meeting, does: Mapping[str, object]) -> None:
        super().__init__(does)
        self.overlap = backend.overlap
        self._backend = backend
        self._alone = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        is_free = self._alone.acquire(blocking=False)
        assert is_free or self.overlap is Overlap.SHARED, "two calls in one session"
        try:
            if (barrier := self._backend.barrier) is not None:
                self._backend.used.add(id(self))
                barrier.wait(WAIT_S)
            return super().run(inputs)
        finally:
            if is_free:
                self._alone.release()


def served(root: Path, backend: Meeting, instances: str) -> LocalService:
    make_bundle(root / "b", SLOW)
    settings = EngineSettings(
        SelectionSettings(budget_s=0.1, isolate=False), instances=Instances.parse(instances), home=root / "home"
    )
    engine = Engine(settings, machine(), (backend,))
    engine.load(root / "b")
    return LocalService(engine)


def request(value: float, rows: int = 1) -> InferenceRequest:
    return InferenceRequest("fake", {"x": np.full((rows, CLASSES), value, np.float32)})


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def ask_all(service: LocalService, count: int) -> None:
    """Requests one by one, so that each is a batch of its own; every answer is its own row."""

    async def ask(value: int) -> None:
        reply = await service.infer(request(value))
        np.testing.assert_array_equal(reply.outputs["y"], np.full((1, CLASSES), value, np.float32))

    tasks = []
    ((_, queue),) = service.schedulers()
    for value in range(count):
        tasks.append(asyncio.create_task(ask(value)))
        await until(lambda: not queue.waiting[2] and queue._running_until)
    await asyncio.wait_for(asyncio.gather(*tasks), 3 * WAIT_S)


@pytest.mark.parametrize("overlap", [Overlap.SHARED, Overlap.OWN])
async def test_two_batches_are_inside_the_engine_at_the_same_time(tmp_path: Path, overlap: Overlap) -> None:
    backend = Meeting(overlap)
    service = served(tmp_path, backend, "2")
    backend.barrier = threading.Barrier(2)  # broken unless two calls are inside at once
    await ask_all(service, 2)
    assert len(backend.used) == (1 if overlap is Overlap.SHARED else 2)
    backend.barrier = None
    await service.drain()
    service.close()


@pytest.mark.parametrize(("overlap", "instances"), [(Overlap.SHARED, "1"), (Overlap.NEVER, "4")])
async def test_one_batch_at_a_time_where_more_are_not_asked_for_or_not_possible(
    tmp_path: Path, overlap: Overlap, instances: str
) -> None:
    backend = Meeting(overlap)
    service = served(tmp_path, backend, instances)
    backend.barrier = threading.Barrier(2)
    first = asyncio.create_task(service.infer(request(1)))
    ((_, queue),) = service.schedulers()
    await until(lambda: queue._running_until)
    second = asyncio.create_task(service.infer(request(2)))
    await until(lambda: queue.waiting[2])
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(queue._running_until) == 1
    assert queue.waiting[2] == 1, "the second one waits in the queue"
    backend.barrier.wait(WAIT_S)  # lets the first go
    await asyncio.to_thread(backend.barrier.wait, WAIT_S)
    for task, value in ((first, 1), (second, 2)):
        assert (await task).outputs["y"][0, 0] == value
    service.close()


async def test_a_load_changes_how_many_and_the_config_says_so(tmp_path: Path) -> None:
    backend = Meeting(Overlap.OWN)
    service = served(tmp_path, backend, "1")
    described = await service.describe_model("fake", "")
    assert (described.plan.instances, encode_config(described).config.instance_group[0].count) == (1, 1)
    sent_back = config_json(described)
    sent_back["instance_group"][0]["count"] = 3
    opened_before = len(backend.opened)
    await service.load("fake", {"config": json.dumps(sent_back)})
    assert len(backend.opened) == opened_before + 3
    assert config_json(await service.describe_model("fake", ""))["instance_group"][0]["count"] == 3
    backend.barrier = threading.Barrier(3)
    await ask_all(service, 3)
    backend.barrier = None
    await service.load("fake", {})
    assert (await service.describe_model("fake", "")).plan.instances == 1, "an override holds until the next load"
    await service.drain()
    service.close()


async def test_a_load_that_asks_for_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    service = served(tmp_path, Meeting(Overlap.NEVER), "1")
    with pytest.raises(
        UnsupportedError, match="cannot run 2 batches at the same time: its engine makes one call at a time"
    ):
        await service.load("fake", {"config": json.dumps({"instance_group": [{"count": 2}]})})
    assert (await service.infer(request(5))).outputs["y"][0, 0] == 5
    service.close()


async def test_real_sessions_answer_each_its_own_rows(tmp_path: Path) -> None:
    """ONNX Runtime, one session for all; run on threads although it is fast enough for the event loop."""
    put_model(tmp_path / "repository", "simple", 1)
    settings = EngineSettings(
        SELECTION, VersionPolicy(), tmp_path / "repository", Instances.parse("simple=4"), home=tmp_path / "home"
    )
    engine = Engine(settings)
    model = engine.load("simple")
    assert model.granted.count == 4
    with ThreadPoolExecutor(4) as pool:
        queue = Scheduler("simple", model.run, lambda rows: 0.002, BatchPolicy(3), pool)
        queue.follow(BatchPolicy(3), 4, pool)

        async def ask(value: int) -> None:
            first = FIRST + value
            told = await queue.run({"INPUT0": first, "INPUT1": SECOND}, 1, None)
            np.testing.assert_array_equal(told["OUTPUT0"], first + SECOND)
            np.testing.assert_array_equal(told["OUTPUT1"], first - SECOND)

        await asyncio.gather(*(ask(value) for value in range(300)))
    engine.close()


class Gated:
    """Holds every call until as many are released; says which rows it got, in the order in which calls began."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.began: list[float] = []
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            self.began.append(float(inputs["x"][0, 0]))
        assert self.gate.acquire(timeout=WAIT_S)
        return {"y": inputs["x"]}


async def test_what_is_predicted_and_refused_counts_the_batches_beside_each_other() -> None:
    model = Gated()
    with ThreadPoolExecutor(2) as pool:
        queue = Scheduler("gated", model, lambda rows: 1000.0, BatchPolicy(1), pool)
        queue.follow(BatchPolicy(1), 2, pool)
        x = {"x": np.zeros((1, 1), np.float32)}
        assert queue.wait_s(1) == pytest.approx(1000.0)
        asked = [asyncio.create_task(queue.run(x, 1, None))]
        await until(lambda: len(model.began) == 1)
        assert queue.wait_s(1) == pytest.approx(1000.0), "the second place is free"
        asked += [asyncio.create_task(queue.run(x, 1, None)) for _ in range(3)]
        await until(lambda: len(model.began) == 2)
        # Two run, two wait: those take both places, and the next one starts when they end.
        assert queue.wait_s(1) == pytest.approx(3000.0, abs=100.0)
        with pytest.raises(OverloadedError, match="would take about") as caught:
            await queue.run(x, 1, None, deadline=time.monotonic() + 2500.0)
        assert caught.value.retry_after_s == pytest.approx(2000.0, abs=100.0)
        in_time = asyncio.create_task(queue.run(x, 1, None, deadline=time.monotonic() + 3500.0))
        model.gate.release(len(asked) + 1)
        await asyncio.gather(*asked, in_time)


async def test_batches_begin_in_order_of_priority_and_arrival() -> None:
    model = Gated()
    with ThreadPoolExecutor(2) as pool:
        queue = Scheduler("gated", model, lambda rows: 0.002, BatchPolicy(1), pool)
        queue.follow(BatchPolicy(1), 2, pool)
        tasks = [
            asyncio.create_task(queue.run({"x": np.full((1, 1), value, np.float32)}, 1, None, None, priority))
            for value, priority in enumerate([5, 5, 5, 1, 5, 1])
        ]
        await until(lambda: len(model.began) == 2)
        for count in range(3, len(tasks) + 1):
            model.gate.release()  # one place becomes free at a time
            await until(lambda: len(model.began) == count)  # noqa: B023  (awaited in this turn)
        model.gate.release(2)
        await asyncio.gather(*tasks)
    # Two threads start the first two side by side.
    assert (set(model.began[:2]), model.began[2:]) == ({3.0, 5.0}, [0.0, 1.0, 2.0, 4.0])


NOW = {"instance_group": [{"name": "m", "kind": "KIND_CPU", "count": 1, "gpus": []}]}


@pytest.mark.parametrize(
    ("groups", "count"),
    [
        ([{"count": 2}], 2),
        ([{"count": "2", "kind": "KIND_CPU"}], 2),
        ([{"count": 2, "kind": "KIND_AUTO", "passive": False, "profile": []}], 2),
        ([{"kind": "KIND_CPU"}], None),
        ([], None),
    ],
)
def test_the_count_of_an_instance_group_is_read(groups: object, count: int | None) -> None:
    told = decode_overrides("m", {"config": json.dumps({"instance_group": groups})}, NOW, 64)
    assert told.batching.instances == count


@pytest.mark.parametrize(
    ("groups", "kind", "words"),
    [
        ([{"count": 0}], InvalidInputError, "'instance_group.count' is 0; expected a number from 1 to 64"),
        ([{"count": 65}], InvalidInputError, "from 1 to 64"),
        ([{"count": True}], InvalidInputError, "is True"),
        ([{"count": 1}, {"count": 1}], UnsupportedError, "expected one group"),
        ("two", UnsupportedError, "expected one group"),
        ([3], UnsupportedError, "expected one group"),
        ([{"count": 1, "kind": "KIND_GPU"}], UnsupportedError, "'instance_group.kind' is 'KIND_GPU'"),
        ([{"count": 1, "gpus": [0]}], UnsupportedError, "'instance_group.gpus'"),
        ([{"count": 1, "passive": True}], UnsupportedError, "'instance_group.passive'"),
    ],
)
def test_an_instance_group_that_asks_for_more_than_a_count_is_refused(
    groups: object, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        decode_overrides("m", {"config": json.dumps({"instance_group": groups})}, NOW, 64)


def test_settings_take_a_number_a_text_or_a_table(tmp_path: Path) -> None:
    def read(toml: str) -> Instances:
        file = tmp_path / "settings.toml"
        file.write_text(toml)
        return load_settings(ModelServerSettings, file, environ={}).settings.instances

    assert read("") == Instances()
    assert read("instances = 3") == Instances(3)
    assert read('instances = "2,digits=4"') == Instances(2, {"digits": 4})
    assert read("instances = {digits = 4}") == Instances(1, {"digits": 4})
    told = load_settings(ModelServerSettings, environ={"EDGEWARD_INSTANCES": "2,digits=4"})
    assert ("instances", "2,digits=4", "variable EDGEWARD_INSTANCES") in told.describe()
    with pytest.raises(WrongUseError, match="instances.*is not understood"):
        read("instances = 0")

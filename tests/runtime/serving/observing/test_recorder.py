"""Statistics beside the data plane: counted off the loop, bounded, and never in the way of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.monitoring.monitor import Window
from runtime.selection.settings import SelectionSettings
from runtime.serving.local_service import LocalService
from runtime.serving.metrics.labels import at_the_edge
from runtime.serving.metrics.statistics_metrics import statistics_metrics
from runtime.serving.observing.observers import Observers
from runtime.serving.observing.recorder import (
    BLOCK_ROWS,
    COUNT_EVERY_S,
    QUEUE_ROWS,
    StatisticsRecorder,
    _blocks,
    _Taken,
)
from runtime.serving.observing.settings import StatisticsSettings
from runtime.wire.values import InferenceRequest
from tests.other_samples import with_samples
from tests.runtime.serving.threaded import PATIENCE_S

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",), variants=("fp32.onnx",))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> StatisticsRecorder:
    """Without its thread: `count_now` is what the thread does."""
    return StatisticsRecorder(StatisticsSettings(rows_per_s=1e9), clock)


@pytest.fixture
async def service(digits: Bundle, recorder: StatisticsRecorder, tmp_path: Path) -> AsyncIterator[LocalService]:
    engine = Engine(EngineSettings(QUICK, home=tmp_path))
    engine.load(digits.root)
    service = LocalService(engine, name="test", version="1", observers=(recorder,))
    yield service
    await service.drain()
    service.close()


def images(digits: Bundle) -> Any:
    samples = digits.samples()
    assert samples is not None
    return samples.inputs["image"]


async def send(service: LocalService, rows: Any) -> None:
    await asyncio.gather(*(service.infer(InferenceRequest("digits", {"image": row[None]})) for row in rows))


def pass_time(recorder: StatisticsRecorder, clock: Clock, seconds: int) -> None:
    """As while the machine is awake: the recorder's thread counts every half second."""
    for _ in range(2 * seconds):
        clock.now += 0.5
        recorder.count_now()


async def test_rows_become_windows_and_drift_is_said(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    windows: list[Window] = []
    recorder.on_window = windows.append
    rows = images(digits)
    await send(service, rows)
    recorder.count_now()
    assert recorder.document()["models"][0]["open_rows"] == 450
    assert recorder.verdicts() == {}
    pass_time(recorder, clock, 31)
    told = recorder.document()["models"][0]
    assert (told["rows"], told["is_drifting"], told["baseline"]["source"]) == (450, False, "bundle")
    assert list(recorder.verdicts().values()) == [()]
    await send(service, 1 - rows)
    recorder.count_now()
    pass_time(recorder, clock, 31)
    document = recorder.document()
    told = document["models"][0]
    assert (len(windows), windows[1].summary.rows, windows[1].began, windows[1].ended) == (2, 450, 131.0, 161.0)
    brightness = next(v for v in told["verdicts"] if v["feature"] == "image.brightness")
    assert brightness["since"] == 131.0
    assert windows[0].drifting == ()
    assert "image.brightness" in windows[1].drifting, "told to the gateway, which else would not know where"
    json.dumps(document, allow_nan=False)


async def test_a_night_asleep_ends_the_window_when_it_began(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    windows: list[Window] = []
    recorder.on_window = windows.append
    rows = images(digits)[:150]
    await send(service, rows)
    recorder.count_now()
    pass_time(recorder, clock, 5)
    clock.now += 8 * 3600
    await send(service, rows[:120])
    recorder.count_now()
    assert [(w.summary.rows, w.began, w.ended) for w in windows] == [(150, 100.0, 105.0)], "the evening's rows alone"
    pass_time(recorder, clock, 31)
    assert [(w.summary.rows, w.began) for w in windows[1:]] == [(120, 8 * 3600 + 105.0)]


async def test_a_window_begins_with_its_first_rows(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    windows: list[Window] = []
    recorder.on_window = windows.append
    await send(service, images(digits)[:100])
    recorder.count_now()
    pass_time(recorder, clock, 900)
    await send(service, images(digits)[:60])
    recorder.count_now()
    assert [(w.summary.rows, w.began, w.ended) for w in windows] == [(100, 100.0, 130.0)]
    pass_time(recorder, clock, 300)
    assert [(w.summary.rows, w.began, w.ended) for w in windows[1:]] == [(60, 1000.0, 1300.0)]


async def test_private_rows_are_counted_here_and_never_handed_on(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    windows: list[Window] = []
    recorder.on_window = windows.append
    recorder.is_private = lambda request: request.id == "private"
    rows = images(digits)[:60]
    for at, row in enumerate(rows):
        await service.infer(InferenceRequest("digits", {"image": row[None]}, id="private" if at % 3 else ""))
    recorder.count_now()
    assert recorder.document()["models"][0]["open_rows"] == 60
    pass_time(recorder, clock, 301)
    assert recorder.document()["models"][0]["rows"] == 60
    assert [(window.summary.rows, window.private_rows) for window in windows] == [(20, 40)]
    await service.infer(InferenceRequest("digits", {"image": rows[:1]}, id="private"))
    recorder.count_now()
    pass_time(recorder, clock, 301)
    assert recorder.document()["models"][0]["rows"] == 61
    assert len(windows) == 1, "a window of private rows alone is none to others"
    dark = 1 - images(digits)
    await service.infer(InferenceRequest("digits", {"image": dark}, id="private"))
    await service.infer(InferenceRequest("digits", {"image": rows}))
    recorder.count_now()
    pass_time(recorder, clock, 31)
    assert recorder.verdicts()["digits", 1]
    assert (windows[-1].summary.rows, windows[-1].private_rows) == (60, 451), (
        "those of the window of none before it too"
    )
    assert windows[-1].drifting == (), "what drifts is private rows' alone"
    assert recorder.document()["models"][0]["private_rows"] == 491


async def test_what_drifts_of_the_rows_that_may_be_told_of_is_told_beside_private_ones(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    windows: list[Window] = []
    recorder.on_window = windows.append
    recorder.is_private = lambda request: request.id == "private"
    rows = images(digits)

    async def window(shared: Any, private: Any) -> tuple[str, ...]:
        await service.infer(InferenceRequest("digits", {"image": shared}))
        if len(private):
            await service.infer(InferenceRequest("digits", {"image": private}, id="private"))
        recorder.count_now()
        pass_time(recorder, clock, 31)
        return windows[-1].drifting

    assert await window(rows, rows[:0]) == ()
    assert "image.brightness" in await window(1 - rows, rows[:0])
    # What was known before the first private row is known after it, and that lies otherwise than the shared ones.
    assert "image.brightness" in await window(1 - rows[:100], rows)
    assert recorder.document()["models"][0]["private_rows"] == 450
    for _ in range(40):
        drifting = await window(rows, 1 - rows)
        if not drifting:
            break
    assert drifting == ()
    assert "image.brightness" in {found.feature for found in recorder.verdicts()["digits", 1]}, "here it is known"


async def test_a_broken_recorder_changes_no_answer(
    service: LocalService, recorder: StatisticsRecorder, digits: Bundle
) -> None:
    class Broken:
        def observe(self, *_: object) -> None:
            raise RuntimeError("broken")

    service.observers = Observers((Broken(), recorder))
    await send(service, images(digits)[:3])
    assert service.observers.failures == 3
    recorder.count_now()
    assert recorder.document()["recorder"]["sampled_rows"] == 3, "the next observer is told all the same"


async def test_counting_that_fails_is_counted_and_goes_on(
    service: LocalService, recorder: StatisticsRecorder, digits: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no more")

    await send(service, images(digits)[:2])
    with monkeypatch.context() as patch:
        patch.setattr("runtime.serving.observing.watched.WatchedStatistics", fail)
        recorder.count_now()
    await send(service, images(digits)[:2])
    recorder.count_now()
    told = recorder.document()
    assert (told["recorder"]["failures"], told["models"][0]["open_rows"]) == (1, 2)


async def test_a_full_queue_drops_and_counts(
    service: LocalService, recorder: StatisticsRecorder, digits: Bundle
) -> None:
    block = np.repeat(images(digits), 3, axis=0)[:1000]
    for _ in range(5):
        await service.infer(InferenceRequest("digits", {"image": block}))
    told = recorder.document()["recorder"]
    assert (told["queued_rows"], told["dropped_rows"]) == (4000, 1000)
    assert told["queued_rows"] <= QUEUE_ROWS
    recorder.count_now()
    assert recorder.document()["recorder"]["queued_rows"] == 0
    families = {family.name: family for family in await statistics_metrics(recorder, at_the_edge)()}
    assert {labels["result"]: count for labels, count in families["edgeward_statistics_rows_total"].samples} == {
        "counted": 4000,
        "passed_by": 0,
        "dropped": 1000,
    }


def test_a_busy_server_counts_a_random_share(clock: Clock) -> None:
    recorder = StatisticsRecorder(StatisticsSettings(rows_per_s=100), clock)
    request = InferenceRequest("m", {"x": np.zeros((1, 1))})
    for second in range(4):
        for _ in range(2000):
            recorder.observe(None, request, {}, 1)  # type: ignore[arg-type]
        clock.now += 1
        recorder._queue.clear()
        recorder._done = list(recorder._put)
        recorder.count_now()
        assert recorder.document()["recorder"]["share"] == pytest.approx(0.05), second
    counts = recorder.counts
    assert counts["sampled_rows"] <= 4 * 100
    assert counts["passed_rows"] + counts["sampled_rows"] + counts["dropped_rows"] == counts["rows"] == 4 * 2000


def test_a_burst_after_a_calm_time_is_capped(clock: Clock) -> None:
    recorder = StatisticsRecorder(StatisticsSettings(rows_per_s=100), clock)
    request = InferenceRequest("m", {"x": np.zeros((1, 1))})
    for burst in range(1, 4):
        for _ in range(2000):
            recorder.observe(None, request, {}, 1)  # type: ignore[arg-type]
        told = recorder.document()["recorder"]
        # Of a second 100, and two standard errors.
        assert (told["sampled_rows"], told["dropped_rows"]) == (120 * burst, 0)
        recorder._queue.clear()
        recorder._done = list(recorder._put)
        clock.now += 60
        recorder.count_now()
        clock.now += 1
        recorder.count_now()
        assert recorder.document()["recorder"]["share"] == 1.0, "nothing came in the last second"


def test_a_burst_that_a_second_has_room_for_is_taken_whole(clock: Clock) -> None:
    recorder = StatisticsRecorder(StatisticsSettings(rows_per_s=200), clock)
    request = InferenceRequest("m", {"x": np.zeros((1, 1))})
    for _ in range(5):
        for _ in range(180):
            recorder.observe(None, request, {}, 1)  # type: ignore[arg-type]
        recorder._queue.clear()
        recorder._done = list(recorder._put)
        pass_time(recorder, clock, 1)
    assert (recorder.counts["sampled_rows"], recorder.counts["passed_rows"]) == (900, 0)


async def test_its_thread_counts_by_itself_and_ends(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    recorder.start()
    await send(service, images(digits)[:100])
    clock.now += COUNT_EVERY_S
    async with asyncio.timeout(PATIENCE_S):
        while not recorder.document()["models"]:  # noqa: ASYNC110  (another thread counts)
            await asyncio.sleep(0.01)
    await asyncio.to_thread(recorder.close)
    told = recorder.document()
    assert told["models"][0]["rows"] == 100, "the open window is closed at the end"


async def test_the_newest_window_is_told_as_metrics(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock, digits: Bundle
) -> None:
    rows = images(digits)[:200].copy()
    rows[:50] = np.nan
    for part in (rows[:50], rows[50:]):
        await service.infer(InferenceRequest("digits", {"image": part}))
    recorder.count_now()
    pass_time(recorder, clock, 31)
    collected = {family.name: family.samples for family in await statistics_metrics(recorder, at_the_edge)()}
    ours = {"model": "digits", "version": "1", **at_the_edge("digits", "1")}

    def told(what: str, **more: str) -> float:
        (value,) = [v for labels, v in collected[f"edgeward_feature_{what}"] if labels == ours | more]
        return float(value)  # type: ignore[arg-type]

    brightness = rows[50:].reshape(150, -1).mean(axis=1)
    assert told("value", feature="image.brightness", stat="mean") == pytest.approx(brightness.mean(), rel=1e-5)
    low, middle, high = (told("value", feature="image.brightness", stat=stat) for stat in ("p10", "p50", "p90"))
    assert brightness.min() <= low < middle < high <= brightness.max()
    assert told("missing_ratio", feature="image.brightness") == 0.25
    classes = [
        float(share)  # type: ignore[arg-type]
        for labels, share in collected["edgeward_feature_category_ratio"]
        if labels["feature"] == "probabilities.class"
    ]
    assert sum(classes) == pytest.approx(1.0)


async def test_nan_rows_and_strange_shapes_are_counted(
    service: LocalService, recorder: StatisticsRecorder, clock: Clock
) -> None:
    shape = (1, 8, 8)
    odd = [np.full((2, *shape), np.nan), np.full((60, *shape), np.inf), np.zeros((0, *shape))]
    for value in (array.astype(np.float32) for array in odd):
        await service.infer(InferenceRequest("digits", {"image": value}))
    recorder.count_now()
    pass_time(recorder, clock, 400)
    told = recorder.document()
    assert told["recorder"]["failures"] == 0
    brightness = told["models"][0]["features"]["image.brightness"]
    assert (brightness["missing"], brightness["not_finite"]) == (2, 60)
    json.dumps(told, allow_nan=False)


def test_requests_are_joined_to_blocks_and_those_of_another_shape_or_kind_stand_apart() -> None:
    def taken(rows: int, width: int = 3, dtype: str = "float32", *, is_private: bool = False) -> _Taken:
        value = np.full((rows, width), rows, dtype)
        return _Taken(None, {"x": value}, {"y": value}, rows, value.nbytes, is_private)  # type: ignore[arg-type]

    def told(*several: _Taken) -> list[tuple[tuple[int, ...], str, bool]]:
        blocks = list(_blocks(list(several)))
        assert all((inputs["x"] == outputs["y"]).all() for inputs, outputs, _ in blocks)
        return [(inputs["x"].shape, str(inputs["x"].dtype), is_private) for inputs, _, is_private in blocks]

    mixed = [taken(2), taken(1), taken(1, 4), taken(1, 4, "float64"), taken(1), taken(5, is_private=True)]
    assert told(*mixed) == [
        ((3, 3), "float32", False),
        ((1, 4), "float32", False),
        ((1, 4), "float64", False),
        ((1, 3), "float32", False),
        ((5, 3), "float32", True),
    ]
    large = BLOCK_ROWS - 1
    assert [shape[0] for shape, _, _ in told(taken(large), taken(1), taken(1), taken(2 * large))] == [
        BLOCK_ROWS,
        1,
        2 * large,
    ]


async def test_a_bundle_that_takes_anothers_place_under_one_version_begins_anew(
    recorder: StatisticsRecorder, clock: Clock, digits: Bundle, tmp_path: Path
) -> None:
    rows = images(digits)
    bright = with_samples(digits, tmp_path / "bright", np.argsort(rows.mean(axis=(1, 2, 3)))[-150:])
    engine = Engine(EngineSettings(QUICK, home=tmp_path))
    for root in (digits.root, bright.root):
        engine.load(root)
        service = LocalService(engine, name="test", version="1", observers=(recorder,))
        await send(service, rows)
        recorder.count_now()
        pass_time(recorder, clock, 31)
        await service.drain()
    engine.close()
    (told,) = recorder.document()["models"]
    assert told["rows"] == 450, "those of the bundle before are not mixed in"
    assert "image.brightness" in {verdict["feature"] for verdict in told["verdicts"]}, "held against its own samples"


async def test_private_rows_that_nobody_was_told_of_are_told_by_what_answers_next(
    recorder: StatisticsRecorder, clock: Clock, digits: Bundle, tmp_path: Path
) -> None:
    windows: list[Window] = []
    recorder.on_window = windows.append
    recorder.is_private = lambda request: request.id == "private"
    rows = images(digits)
    other = with_samples(digits, tmp_path / "other", np.arange(300))
    engine = Engine(EngineSettings(QUICK, home=tmp_path))
    for root, is_last in ((digits.root, False), (other.root, True)):
        engine.load(root)
        service = LocalService(engine, name="test", version="1", observers=(recorder,))
        for count in (110, 7):  # a window that is closed, and one that is open when the other bundle takes over
            await service.infer(InferenceRequest("digits", {"image": rows[:count]}, id="private"))
            recorder.count_now()
            pass_time(recorder, clock, 31)
        if is_last:
            await service.infer(InferenceRequest("digits", {"image": rows}))
            recorder.count_now()
            pass_time(recorder, clock, 31)
        await service.drain()
    engine.close()
    assert [(window.summary.rows, window.private_rows) for window in windows] == [(450, 2 * 117)]

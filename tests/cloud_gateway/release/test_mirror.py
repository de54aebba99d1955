"""The candidate beside stable: every answer compared, nothing waits for it, and what does not fit is dropped and counted."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.guards import Arm
from cloud_gateway.release import second_copy
from cloud_gateway.release.comparison import Comparison
from cloud_gateway.release.mirror import Mirror
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.second_copy import COPY, SAME, SecondCopy
from cloud_gateway.release.seen import SeenPair
from cloud_gateway.release.shadow_report import MAX_SEGMENT_CONFUSIONS, ShadowReport
from cloud_gateway.release.split import MAX_SEGMENTS
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.errors import ExecutionError, ModelNotReadyError
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, SELECTION, make_bundle, row
from tests.cloud_gateway.release.fakes import FakeVersion

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Model]]:
    root = tmp_path_factory.mktemp("mirror")
    engine = Engine(EngineSettings(SELECTION, home=root / "home"))
    yield {
        "stable": engine.add(make_bundle(root / "1", 1)),
        "same": engine.add(make_bundle(root / "2", 2)),
        "other": engine.add(make_bundle(root / "3", 3, is_other=True)),
        "fragile": engine.add(make_bundle(root / "4", 4, table_size=2)),
    }
    engine.close()


def mirrored(
    models: dict[str, Model], candidate: str, requests: list[dict[str, np.ndarray]], twice_every: int = 0
) -> list[Mirrored]:
    mirror = Mirror(models["stable"], models[candidate], 1000, twice_every)
    found: list[Mirrored] = []
    try:
        for number, inputs in enumerate(requests):
            mirror.offer(inputs, models["stable"].predict(inputs), "even" if number % 2 == 0 else "odd", str(number))
        end = time.monotonic() + PATIENCE_S
        while len(found) < len(requests) and time.monotonic() < end:
            found += mirror.take(1000)
            threading.Event().wait(0.01)
    finally:
        mirror.close()
    found.sort(key=lambda one: int(one.request_id))  # those that run alone come behind their batch
    assert [one.request_id for one in found] == [str(number) for number in range(len(requests))]
    assert mirror.dropped == 0
    return found


def test_a_twin_agrees_and_another_does_not(models: dict[str, Model]) -> None:
    requests = [row(rows=1 + number % 3) for number in range(50)]
    for one in mirrored(models, "same", requests):
        assert one.comparison is not None
        assert (one.comparison.agrees, one.comparison.distance) == (True, 0.0)
    for number, one in enumerate(mirrored(models, "other", requests)):
        assert one.comparison is not None
        assert one.comparison.classes == ((0, 2),) * (1 + number % 3), "each got its own rows of the batch"


def test_one_that_fails_is_told_from_the_others_of_its_batch(models: dict[str, Model]) -> None:
    requests = [row(PICK_FAILS_ON_SMALL_TABLES if number % 10 == 3 else 0) for number in range(30)]
    found = mirrored(models, "fragile", requests)
    assert [int(one.request_id) for one in found if one.error is not None] == [3, 13, 23]
    assert all(one.comparison is not None and one.comparison.agrees for one in found if one.error is None)


def test_a_second_copy_of_stable_is_the_noise_floor(models: dict[str, Model]) -> None:
    found = mirrored(models, "other", [row() for _ in range(40)], twice_every=4)
    twice = [one for one in found if one.noise is not None]
    assert len(twice) == 10
    for one in twice:
        assert one.noise is not None
        assert one.noise.agrees
        assert one.timed is not None
        assert min(one.timed) > 0
    report = ShadowReport()
    for one in found:
        report.observe(SeenPair.of(one))
    told: dict[str, Any] = report.describe()
    assert told["agreement"] == 0.0
    assert told["confusion"] == {"0>2": 40}
    segments = told["segments"]
    assert {name: (one["compared"], one["confusion"]) for name, one in segments.items()} == {
        "even": (20, {"0>2": 20}),
        "odd": (20, {"0>2": 20}),
    }
    # Every fourth request is run alone on both: those of one segment.
    assert {name: one["noise_floor"]["compared"] for name, one in segments.items()} == {"even": 0, "odd": 10}
    assert segments["odd"]["stable"]["p50_ms"] > 0
    assert segments["odd"]["candidate"]["p50_ms"] > 0
    assert segments["even"]["candidate"]["p50_ms"] is None
    assert ShadowReport.from_state(report.to_state()).describe() == told


def test_segments_and_pairs_of_classes_are_bounded() -> None:
    report = ShadowReport()
    for number in range(200):
        compared = Comparison(False, 1.0, ((number, number + 1),))
        report.observe(SeenPair("night", compared, False, False, None, None))
        report.observe(SeenPair(f"s{number}", None, True, False, None, None))
    told = report.describe()
    assert len(told["segments"]) <= MAX_SEGMENTS + 1
    assert sum(one["candidate_errors"] for one in told["segments"].values()) == 200
    assert len(told["segments"]["night"]["confusion"]) == MAX_SEGMENT_CONFUSIONS + 1
    assert sum(told["segments"]["night"]["confusion"].values()) == 200


def test_the_noise_floor_is_a_second_copy_where_one_can_be_had(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    stable = models["stable"]
    second = SecondCopy(stable)
    copy = second.model()
    assert copy is not stable
    assert copy.opened is not stable.opened, "a session of its own"
    assert second.model() is copy
    second.close()
    assert copy.is_closed
    assert not stable.is_closed
    unwanted = SecondCopy(stable, is_wanted=False)
    assert (unwanted.model(), unwanted.noise_from) == (stable, SAME)

    def no_room(*_: object) -> Model:
        raise ExecutionError("no memory left")

    monkeypatch.setattr(second_copy, "Model", no_room)
    refused = SecondCopy(stable)
    assert refused.noise_from == COPY
    assert refused.model() is stable
    assert "no memory left" in refused.noise_from


def test_beside_a_candidate_that_has_the_callers_stable_is_asked(models: dict[str, Model]) -> None:
    stable, fragile = models["stable"], models["fragile"]
    mirror = Mirror(stable, fragile, 1000, 1, times_candidate=True)
    found: list[Mirrored] = []
    try:
        good, bad = row(), row(PICK_FAILS_ON_SMALL_TABLES)
        mirror.offer(good, fragile.predict(good), "", "answered", Arm.CANDIDATE)
        mirror.offer(bad, None, "", "failed", Arm.CANDIDATE, "no such entry")
        mirror.offer({"features": good["features"]}, fragile.predict(good), "", "both wrong", Arm.CANDIDATE)
        end = time.monotonic() + PATIENCE_S
        while len(found) < 3 and time.monotonic() < end:
            found += mirror.take(10)
            threading.Event().wait(0.01)
    finally:
        mirror.close()
    by_id = {one.request_id: one for one in found}
    answered, failed, stables_own = by_id["answered"], by_id["failed"], by_id["both wrong"]
    assert answered.comparison is not None
    assert answered.comparison.agrees
    assert answered.timed is not None
    assert (failed.error, failed.stable_error, failed.comparison, failed.timed) == ("no such entry", None, None, None)
    assert failed.stable_outputs is not None
    assert stables_own.error is None
    assert stables_own.stable_error
    assert {one.answered for one in found} == {Arm.CANDIDATE}


class Stuck:
    """A candidate that hangs until the test lets it go."""

    def __init__(self, real: Model) -> None:
        self._real = real
        self.name, self.inputs, self.outputs, self.bundle = real.name, real.inputs, real.outputs, real.bundle
        self.is_in = threading.Event()
        self.go = threading.Event()

    def predict(self, inputs: Any) -> Any:
        self.is_in.set()
        assert self.go.wait(PATIENCE_S)
        return self._real.predict(inputs)


def test_a_candidate_that_hangs_slows_nobody_and_drops_are_counted(models: dict[str, Model]) -> None:
    stuck: Any = Stuck(models["same"])
    mirror = Mirror(models["stable"], stuck, 8, 0)
    try:
        inputs = row()
        outputs = models["stable"].predict(inputs)
        mirror.offer(inputs, outputs, "", "first")
        assert stuck.is_in.wait(PATIENCE_S)
        for _ in range(100):
            mirror.offer(inputs, outputs, "", "more")
        assert (mirror.offered, mirror.dropped, mirror.waiting) == (101, 92, 8)
        assert mirror.take(10) == []
    finally:
        stuck.go.set()
        mirror.close()


def test_large_requests_are_bounded_by_their_bytes(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    stuck: Any = Stuck(models["same"])
    monkeypatch.setattr("cloud_gateway.release.mirror.MAX_QUEUED_BYTES", 1000)
    mirror = Mirror(models["stable"], stuck, 1000, 0)
    try:
        inputs = row(rows=10)  # 240 bytes, and 160 of outputs
        outputs = models["stable"].predict(inputs)
        for _ in range(10):
            mirror.offer(inputs, outputs, "", "")
        assert mirror.dropped == 8
    finally:
        stuck.go.set()
        mirror.close()


def test_a_version_that_is_unloaded_ends_the_mirror_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(EngineSettings(SELECTION, home=tmp_path / "home"))
    stable, candidate = engine.add(make_bundle(tmp_path / "1", 1)), engine.add(make_bundle(tmp_path / "2", 2))
    mirror = Mirror(stable, candidate, 10, 0)
    engine.remove("small", 2)
    mirror.offer(row(), stable.predict(row()), "", "")
    mirror._thread.join(PATIENCE_S)
    assert not mirror._thread.is_alive(), "it ends by itself"
    assert (mirror.waiting, mirror.take(10)) == (0, [])
    assert "unforeseen" not in caplog.text
    mirror.close()
    assert engine.versions("small") == [1]
    engine.close()


class Turnstile:
    """Lets so many runs of both versions through; the next one waits for `more`."""

    def __init__(self, runs: int) -> None:
        self.more = threading.Event()
        self.is_waiting = threading.Event()
        self.begun = 0
        self._runs = runs

    def __call__(self, name: str, rows: int) -> None:
        self.begun += 1
        if self.begun > self._runs:
            self.is_waiting.set()
            assert self.more.wait(PATIENCE_S)


def fake_mirror(
    on_run: Callable[[str, int], object], twice_every: int, max_queued: int = 1000, shape: tuple[int, ...] = (-1, 2)
) -> Mirror:
    stable: Any = FakeVersion("stable", on_run, shape)
    candidate: Any = FakeVersion("candidate", on_run, shape)
    return Mirror(stable, candidate, max_queued, twice_every, has_copy=False)


def offer(mirror: Mirror, count: int, width: int = 2) -> None:
    x = np.ones((1, width), np.float32)
    for _ in range(count):
        assert mirror.offer({"x": x}, {"y": x}, "", str(mirror.offered), about=mirror.offered)


def names(found: list[Mirrored]) -> list[int]:
    return [int(one.request_id) for one in found]


@pytest.fixture
def never_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless something wakes it."""
    monkeypatch.setattr("cloud_gateway.release.mirror.GATHER_S", 10 * PATIENCE_S)


@pytest.mark.usefixtures("never_wakes")
def test_each_result_is_there_once_it_was_run() -> None:
    turnstile = Turnstile(2 * 3)
    mirror = fake_mirror(turnstile, twice_every=4)
    try:
        offer(mirror, 32)
        assert turnstile.is_waiting.wait(PATIENCE_S)
        batch, alone = [at for at in range(32) if at % 4 != 3], [at for at in range(32) if at % 4 == 3]
        assert names(mirror.take(100)) == alone[:3], "those that ran alone on both come first"
        turnstile.more.set()
        found: list[Mirrored] = []
        end = time.monotonic() + PATIENCE_S
        while len(found) < 29 and time.monotonic() < end:
            found += mirror.take(100)
            threading.Event().wait(0.01)
        assert names(found) == alone[3:] + batch
    finally:
        turnstile.more.set()
        mirror.close()


@pytest.mark.usefixtures("never_wakes")
@pytest.mark.parametrize("twice_every", [1, 0], ids=["alone", "a batch that failed"])
def test_close_waits_for_what_is_under_way_and_no_more(twice_every: int) -> None:
    turnstile = Turnstile(4)

    def run(name: str, rows: int) -> None:
        if rows > 1:
            raise ExecutionError("too many")
        turnstile(name, rows)

    mirror = fake_mirror(run, twice_every)
    offer(mirror, 32)
    assert turnstile.is_waiting.wait(PATIENCE_S)
    closer = threading.Thread(target=mirror.close)
    closer.start()
    assert mirror._closing.wait(PATIENCE_S)
    turnstile.more.set()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert not mirror._thread.is_alive()
    assert turnstile.begun == (6 if twice_every else 5), "the request that was under way was the last"
    ran = names(mirror.take(100))
    assert ran + mirror.left() == list(range(32)), "each ran, or is left"
    assert mirror.left() == [], "told once"


@pytest.mark.usefixtures("never_wakes")
def test_what_ran_before_a_version_was_unloaded_is_not_lost() -> None:
    runs = 0

    def run(name: str, rows: int) -> None:
        nonlocal runs
        runs += 1
        if runs > 6:
            raise ModelNotReadyError("it is being unloaded")

    mirror = fake_mirror(run, twice_every=1)
    offer(mirror, 32)
    mirror._thread.join(PATIENCE_S)
    assert names(mirror.take(100)) == [0, 1, 2]
    assert not mirror.offer({}, None, "", ""), "nobody would run it"
    mirror.close()
    assert mirror.left() == list(range(3, 32))


@pytest.mark.usefixtures("never_wakes")
def test_a_full_batch_waits_for_no_others_and_half_the_bytes_do_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: queue.Queue[int] = queue.Queue()
    full, few, large = (
        fake_mirror(lambda _, rows: batches.put(rows), 0, max_queued) for max_queued in (1000, 10, 1000)
    )
    try:
        offer(full, 31)
        with pytest.raises(queue.Empty):
            batches.get(timeout=0.05)
        offer(full, 1)
        assert batches.get(timeout=PATIENCE_S) == 32
        offer(few, 5)
        assert batches.get(timeout=PATIENCE_S) == 5, "half of what may wait there"
        monkeypatch.setattr("cloud_gateway.release.mirror.MAX_QUEUED_BYTES", 100)  # 16 a request
        offer(large, 4)
        assert batches.get(timeout=PATIENCE_S) == 4
    finally:
        for mirror in (full, few, large):
            mirror.close()


@pytest.mark.usefixtures("never_wakes")
def test_requests_of_other_shapes_or_of_the_other_version_share_no_batch() -> None:
    batches: list[tuple[str, int]] = []
    mirror = fake_mirror(lambda name, rows: batches.append((name, rows)), 0, shape=(-1, -1))
    try:
        offer(mirror, 3, width=2)
        offer(mirror, 4, width=5)
        x = np.ones((1, 5), np.float32)
        for _ in range(2):
            mirror.offer({"x": x}, {"y": x}, "", str(mirror.offered), Arm.CANDIDATE)
        offer(mirror, 23, width=5)
        found: list[Mirrored] = []
        end = time.monotonic() + PATIENCE_S
        while len(found) < 32 and time.monotonic() < end:
            found += mirror.take(100)
            threading.Event().wait(0.01)
        assert names(found) == list(range(32))
        assert batches == [("candidate", 3), ("candidate", 4), ("stable", 2), ("candidate", 23)]
        assert all(one.comparison is not None and one.comparison.agrees for one in found)
    finally:
        mirror.close()


def test_where_no_thread_is_left_requests_are_dropped_and_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    x = np.ones((1, 2), np.float32)
    for is_given_one in (True, False):
        caplog.clear()
        mirror = fake_mirror(lambda *_: None, 0)
        with monkeypatch.context() as patched:
            patched.setattr(mirror._thread, "start", refuse)
            for _ in range(3):
                assert not mirror.offer({"x": x}, {"y": x}, "", "")
        assert (mirror.offered, mirror.dropped, mirror.waiting) == (3, 3, 0)
        assert caplog.text.count("can't start new thread") == 1, "said once"
        if is_given_one:
            offer(mirror, 1)
        mirror.close()
        assert not mirror._thread.is_alive()

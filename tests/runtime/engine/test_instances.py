"""Several calls of one model at the same time: what is wished for, what is granted, and sessions that follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import Overlap, RunOptions, Session
from runtime.backends.pool import SessionPool
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.engine import loader
from runtime.engine.engine import Engine
from runtime.engine.grant import Granted, grant
from runtime.engine.instances import MAX_INSTANCES, Instances
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy
from runtime.engine.warm_up import CALLS, warm_up
from runtime.errors import EdgewardError, ExecutionError, ModelNotFoundError, UnsupportedError, WrongUseError
from runtime.selection.memory_use import MemoryUse
from runtime.selection.settings import SelectionSettings
from runtime.tensors import Array, TensorSpec
from runtime.wire.values import ModelState
from tests.runtime.selection.fakes import FakeBackend, machine, make_bundle

USES = (MemoryUse(1, 10.0), MemoryUse(8, 12.0), MemoryUse(32, 40.0))


def test_a_wish_is_read_from_text() -> None:
    assert Instances.parse("2").of("any") == 2
    mixed = Instances.parse("2, digits=4")
    assert (mixed.of("digits"), mixed.of("other")) == (4, 2)
    assert Instances.parse("digits=4").of("other") == 1
    assert str(mixed) == "2,digits=4"
    assert Instances.parse(str(mixed)) == mixed


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "two", "digits=", "=2", "digits=0", str(MAX_INSTANCES + 1), "2,,3", "²"]
)
def test_a_wish_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WrongUseError, match="is not understood; expected a number from 1 to 64"):
        Instances.parse(text)


def test_all_are_granted_where_engine_and_memory_allow() -> None:
    assert grant(4, Overlap.SHARED, USES, None) == Granted(4)
    assert grant(4, Overlap.OWN, (), 100.0) == Granted(4), "what was not measured refuses nobody"
    assert grant(4, Overlap.OWN, USES, 50.0) == Granted(4, 8), "12 MB each with 8 rows"


def test_fewer_are_granted_with_the_reason() -> None:
    exclusive = grant(4, Overlap.NEVER, USES, None)
    assert exclusive == Granted(1, None, "its engine makes one call at a time on this device")
    capped = grant(4, Overlap.OWN, USES, 25.0)
    assert (capped.count, capped.max_rows) == (2, 8)
    assert capped.why_fewer == "each takes 10.0 MB, the memory cap is 25.0 MB for all"
    assert grant(4, Overlap.OWN, USES, 5.0).count == 1, "one is what selection allowed"
    on_gpu = grant(3, Overlap.SHARED, (MemoryUse(1, 1.0, 30.0),), 60.0)
    assert (on_gpu.count, on_gpu.why_fewer) == (2, "each takes 30.0 MB, the memory cap is 60.0 MB for all")


def engine_on(backend: str, tmp_path: Path, instances: str) -> Engine:
    selection = SelectionSettings(budget_s=0.2, isolate=False, backends=(backend,))
    return Engine(EngineSettings(selection, instances=Instances.parse(instances), home=tmp_path / "home"))


def test_one_session_of_onnx_runtime_serves_all(digits: Bundle, tmp_path: Path) -> None:
    engine = engine_on("onnxruntime-cpu", tmp_path, "digits=3")
    model = engine.load("digits")
    before = model.opened
    assert model.granted.count == 3
    engine.reload("digits", instances=2)
    assert engine.model("digits") is model
    assert model.granted.count == 2
    assert model.opened is before, "nothing was opened again"
    engine.reload("digits")
    assert model.granted.count == 3, "an override holds until the next load"
    engine.close()


def test_litert_gets_an_interpreter_for_each(digits: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    engine = engine_on("litert-cpu", tmp_path, "2")
    model = engine.load("digits")
    pool = model.opened.session
    assert isinstance(pool, SessionPool)
    assert len({id(session) for session in pool._sessions}) == 2
    samples = digits.samples()
    assert samples is not None
    image = samples.inputs["image"][:3]
    two = model.predict(image)["probabilities"]
    engine.reload("digits", instances=1)
    assert not isinstance(model.opened.session, SessionPool)
    np.testing.assert_array_equal(model.predict(image)["probabilities"], two)
    assert model.fallbacks == []
    engine.close()


class OneCallBackend(FakeBackend):
    """Its sessions say that calls do not overlap."""

    overlap = Overlap.NEVER

    def open(self, file: Path, options: RunOptions) -> Session:
        session = super().open(file, options)
        session.overlap = self.overlap
        return session


def fake_engine(tmp_path: Path, overlap: Overlap, instances: str) -> Engine:
    make_bundle(tmp_path / "b", {"ref": {"ms": 0.1}})
    backend = OneCallBackend()
    backend.overlap = overlap
    settings = EngineSettings(
        SelectionSettings(budget_s=0.1, isolate=False, memory_cap_mb=4000.0),
        instances=Instances.parse(instances),
        home=tmp_path / "home",
    )
    return Engine(settings, machine(), (backend,))


def test_a_load_that_asks_for_more_than_the_cap_has_room_for_changes_nothing(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, Overlap.OWN, "1")
    model = engine.load(tmp_path / "b")
    ranked = tuple(replace(one, memory=(MemoryUse(1, 1500.0), MemoryUse(8, 2500.0))) for one in model.choice.ranked)
    model.adopt(replace(model.choice, ranked=ranked), "a test")
    with pytest.raises(
        UnsupportedError,
        match="cannot run 3 batches at the same time: each takes 1500.0 MB, the memory cap is 4000.0 MB for all; at most 2",
    ):
        engine.reload("fake", instances=3)
    assert model.granted.count == 1
    engine.reload("fake", instances=2)
    assert model.most_rows() == 1, "with 8 rows each, two would take 5000 MB"
    engine.close()


def test_what_settings_ask_for_and_cannot_be_had_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = fake_engine(tmp_path, Overlap.NEVER, "fake=3")
    model = engine.load(tmp_path / "b")
    assert model.granted.count == 1
    assert "1 calls at a time instead of 3: its engine makes one call at a time" in caplog.text
    with pytest.raises(UnsupportedError, match="cannot run 2 batches"):
        engine.reload("fake", instances=2)
    engine.close()


def test_instances_that_cannot_be_opened_leave_those_that_are(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, Overlap.OWN, "1")
    model = engine.load(tmp_path / "b")
    before = model.opened
    (tmp_path / "b" / "ref").write_text(json.dumps({"open": "raise"}))
    with pytest.raises(EdgewardError):
        model.set_instances(2)
    assert model.opened is before
    assert model.granted.count == 1
    engine.close()


class ClosingBackend(OneCallBackend):
    """Counts its sessions that are open."""

    open_sessions = 0

    def open(self, file: Path, options: RunOptions) -> Session:
        session = super().open(file, options)
        self.open_sessions += 1
        close = session.close

        def closed() -> None:
            self.open_sessions -= 1
            close()

        session.close = closed  # type: ignore[method-assign]
        return session


@pytest.fixture
def _whole_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of versions may hold bundles here, where elsewhere it holds bare files."""

    def open_all(source: str | Path, cache: Path) -> list[Bundle]:
        return [read_bundle(root) for root in sorted(Path(source).iterdir())]

    monkeypatch.setattr(loader, "open_bundles", open_all)


def engine_of_versions(tmp_path: Path) -> tuple[Engine, ClosingBackend]:
    backend = ClosingBackend()
    backend.overlap = Overlap.OWN
    settings = EngineSettings(
        SelectionSettings(budget_s=0.1, isolate=False, memory_cap_mb=4000.0),
        VersionPolicy.parse("all"),
        home=tmp_path / "home",
    )
    return Engine(settings, machine(), (backend,)), backend


def add_version(tmp_path: Path, version: int, **does: object) -> Path:
    """In the folder of versions that is returned."""
    folder = tmp_path / "fake"
    root = folder / str(version)
    make_bundle(root, {"ref": {"ms": 0.1, **does}})
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    return folder


def states(engine: Engine) -> list[tuple[str, ModelState]]:
    return [(entry.version, entry.state) for entry in engine.index()]


@pytest.mark.usefixtures("_whole_bundles")
def test_a_new_version_is_closed_when_the_load_fails_at_one_that_is_served(tmp_path: Path) -> None:
    engine, backend = engine_of_versions(tmp_path)
    served = engine.load(add_version(tmp_path, 1))
    ranked = tuple(replace(one, memory=(MemoryUse(1, 1500.0),)) for one in served.choice.ranked)
    served.adopt(replace(served.choice, ranked=ranked), "a test")
    add_version(tmp_path, 2)
    before = backend.open_sessions
    with pytest.raises(UnsupportedError):
        engine.reload("fake", instances=3)
    assert engine.versions("fake") == [1]
    assert states(engine) == [("1", ModelState.READY), ("2", ModelState.UNAVAILABLE)]
    assert backend.open_sessions == before
    engine.close()


@pytest.mark.usefixtures("_whole_bundles")
def test_nothing_is_said_to_be_loading_after_a_first_load_that_failed(tmp_path: Path) -> None:
    engine, backend = engine_of_versions(tmp_path)
    add_version(tmp_path, 1)
    folder = add_version(tmp_path, 2, open="raise")
    with pytest.raises(EdgewardError):
        engine.load(folder)
    assert states(engine) == [("1", ModelState.UNAVAILABLE), ("2", ModelState.UNAVAILABLE)]
    assert backend.open_sessions == 0
    with pytest.raises(ModelNotFoundError, match="loading it failed"):
        engine.model("fake")


@pytest.mark.usefixtures("_whole_bundles")
@pytest.mark.parametrize("error", [ExecutionError("no"), MemoryError("no")])
def test_a_model_that_fails_while_it_is_warmed_up_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(model: Model) -> float:
        raise error

    monkeypatch.setattr(Model, "warm_up", fail)
    engine, backend = engine_of_versions(tmp_path)
    with pytest.raises(type(error)):
        engine.load(add_version(tmp_path, 1))
    assert states(engine) == [("1", ModelState.UNAVAILABLE)]
    assert backend.open_sessions == 0


@pytest.mark.usefixtures("_whole_bundles")
def test_a_load_that_fails_at_the_second_model_sets_the_first_one_back(tmp_path: Path) -> None:
    engine, _ = engine_of_versions(tmp_path)
    add_version(tmp_path, 1)
    engine.load(add_version(tmp_path, 2))
    first, second = engine.models()
    second.bundle.root.joinpath("ref").unlink()
    with pytest.raises(EdgewardError):
        engine._set_instances("fake", [first, second], 2)
    assert [first.instances, second.instances] == [1, 1]
    assert first.granted.count == 1
    engine.close()


@pytest.mark.parametrize(("overlap", "sessions"), [(Overlap.SHARED, 1), (Overlap.NEVER, 1), (Overlap.OWN, 3)])
def test_every_session_is_warmed_up_and_one_that_is_shared_only_once(overlap: Overlap, sessions: int) -> None:
    calls: list[int] = []

    def run(inputs: Mapping[str, Array]) -> None:
        calls.append(len(inputs["x"]))

    warm_up(run, (TensorSpec("x", "FP32", (-1, 2)),), overlap, 3)
    assert calls == [1] * (CALLS * sessions)

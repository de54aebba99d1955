"""A second load in a process works nothing out again, until anything that it rests on is another."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

import runtime.engine
from runtime.bundle import unchanged
from runtime.bundle.bundle import Bundle
from runtime.engine import again, engine
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.errors import BundleError, ModelNotReadyError
from runtime.selection.cache import glance
from runtime.selection.settings import SelectionSettings

QUICK = SelectionSettings(budget_s=0.1, isolate=False, backends=("onnxruntime-cpu",), variants=("fp32.onnx",))
IMAGE = np.zeros((1, 1, 8, 8), np.float32)
RUNTIME = Path(runtime.engine.__path__[0]).parent

pytestmark = pytest.mark.skipif(
    glance() is None, reason="only Linux has a word for a boot; elsewhere every load probes"
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineSettings:
    """Files settle as soon as they are written, and the machine stays as it is."""
    monkeypatch.setattr(unchanged, "SETTLED_AFTER_NS", -1)
    monkeypatch.setattr(again, "glance", lambda: "as ever")
    return EngineSettings(selection=QUICK, home=tmp_path / "home")


@pytest.fixture
def source(digits: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits.root, tmp_path / "digits"))


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What whole loads were asked for."""
    asked: list[str] = []
    whole: Callable[..., Model] = engine.Engine._load

    def note(self: engine.Engine, source: str | Path, *others: object, **further: object) -> Model:
        asked.append(str(source))
        return whole(self, source, *others, **further)

    monkeypatch.setattr(engine.Engine, "_load", note)
    return asked


def load_twice(source: str | Path, settings: EngineSettings) -> None:
    """The first load measures, the second finds what it kept."""
    for _ in range(2):
        load(source, settings).close()


def test_what_was_loaded_before_is_only_opened(source: Path, settings: EngineSettings, worked_out: list[str]) -> None:
    load_twice(source, settings)
    worked_out.clear()
    with load(source, settings) as first, load(source, settings) as second:
        assert worked_out == []
        assert first is not second
        assert first.opened.session is not second.opened.session
        assert first.choice.from_cache
        first.close()
        np.testing.assert_allclose(second.predict(IMAGE)["probabilities"].sum(), 1, atol=1e-5)
        with pytest.raises(ModelNotReadyError):
            first.predict(IMAGE)


def test_another_manifest_is_another_model(source: Path, settings: EngineSettings, worked_out: list[str]) -> None:
    load_twice(source, settings)
    manifest = json.loads((source / "manifest.json").read_text())
    (source / "manifest.json").write_text(json.dumps(manifest | {"version": 7}))
    with load(source, settings) as model:
        assert model.version == 7
    assert len(worked_out) == 3


def test_another_file_than_the_manifest_says_is_refused(source: Path, settings: EngineSettings) -> None:
    load_twice(source, settings)
    file = source / "variants" / "fp32.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match=r"fp32\.onnx.*it was changed: copy the bundle again"):
        load(source, settings)


def test_a_choice_that_is_not_kept_any_more_is_made_again(
    source: Path, settings: EngineSettings, worked_out: list[str], tmp_path: Path
) -> None:
    load_twice(source, settings)
    (kept,) = (tmp_path / "home" / "calibrations").glob("*.json")
    kept.unlink()
    with load(source, settings) as model:
        assert not model.choice.from_cache
    assert len(worked_out) == 3
    kept.write_text("{}")
    with load(source, settings) as model:
        assert not model.choice.from_cache
    assert len(worked_out) == 4


def test_another_machine_is_looked_at_closely(
    source: Path, settings: EngineSettings, worked_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_twice(source, settings)
    monkeypatch.setattr(again, "glance", lambda: "a device came")
    load(source, settings).close()
    assert len(worked_out) == 3
    monkeypatch.setattr(again, "glance", lambda: None)
    load_twice(source, settings)
    assert len(worked_out) == 5


def test_another_way_of_loading_is_another_load(
    source: Path, settings: EngineSettings, worked_out: list[str], tmp_path: Path
) -> None:
    load_twice(source, settings)
    of_int8 = replace(settings, selection=replace(QUICK, variants=("int8.onnx",)))
    with load(source, of_int8) as model:
        assert model.candidate.variant.name == "int8.onnx"
    assert len(worked_out) == 3


def test_another_home_has_choices_of_its_own(
    source: Path, settings: EngineSettings, worked_out: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_environment = replace(settings, home=None)
    for home in ("one", "two"):
        monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path / home))
        load_twice(source, of_environment)
        assert list((tmp_path / home / "calibrations").glob("*.json"))
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path / "one"))
    load(source, of_environment).close()
    assert len(worked_out) == 4


def test_a_name_means_what_lies_in_the_working_folder_first(
    source: Path, settings: EngineSettings, worked_out: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    load_twice("digits", settings)
    worked_out.clear()
    load("digits", settings).close()
    assert worked_out == []
    source.rename(elsewhere / "digits")
    with load("digits", settings) as model:
        assert model.bundle.root == Path("digits")
    assert worked_out == ["digits"]


def test_a_name_means_what_lies_in_the_repository_by_now(
    source: Path, settings: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    shelf = tmp_path / "repository"
    shelf.mkdir()
    of_repository = replace(settings, repository=shelf)
    load_twice("digits", of_repository)
    manifest = json.loads((source / "manifest.json").read_text())
    (source / "manifest.json").write_text(json.dumps(manifest | {"version": 7}))
    source.rename(shelf / "digits")
    with load("digits", of_repository) as model:
        assert model.version == 7


def test_a_second_load_makes_few_calls_of_its_own(source: Path, settings: EngineSettings) -> None:
    """Each finds its code and data cold, for microseconds: 75 calls were half of what a small session takes to open."""
    tflite = replace(settings, selection=replace(QUICK, backends=("litert-cpu",), variants=("fp32.tflite",)))
    load_twice(source, tflite)
    calls: list[str] = []

    def note(frame: FrameType, event: str, of: object) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(RUNTIME):
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        model = load(source, tflite)
    finally:
        sys.setprofile(None)
    model.close()
    assert len(calls) <= 36, calls

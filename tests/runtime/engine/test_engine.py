"""Models in service: found by name and version, replaced and unloaded under load, and outliving their device."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import Overlap, RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine
from runtime.engine.load import load
from runtime.engine.loader import _warn
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy
from runtime.errors import (
    BackendUnavailableError,
    BundleError,
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from runtime.selection.cache import glance
from runtime.selection.settings import SelectionSettings
from runtime.tensors import Array, TensorSpec
from runtime.wire.values import ModelState

QUICK = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",), variants=("fp32.onnx",))


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    return EngineSettings(selection=QUICK, home=tmp_path / "home")


def version_of(digits: Bundle, folder: Path, version: int) -> Path:
    """A copy of the digits bundle that calls itself `version`."""
    shutil.copytree(digits.root, folder, dirs_exist_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    return folder


def test_a_loaded_model_answers_like_the_bundle_says(digits: Bundle, settings: EngineSettings) -> None:
    samples = digits.samples()
    assert samples is not None
    with load("digits", settings) as model:
        outputs = model.predict(samples.inputs)
        np.testing.assert_allclose(outputs["probabilities"], samples.outputs["probabilities"], atol=1e-5)
        only = model.predict(samples.inputs["image"][:1])
        np.testing.assert_allclose(only["probabilities"], outputs["probabilities"][:1], atol=1e-5)


def test_a_closed_model_says_so(settings: EngineSettings) -> None:
    model = load("digits", settings)
    assert repr(model) == f"<Model 'digits' version 1: {model.serving}>"
    model.close()
    model.close()
    assert repr(model) == "<Model 'digits' version 1: closed>"
    with pytest.raises(ModelNotReadyError, match="model 'digits' version 1 is closed; load it again"):
        model.predict(np.zeros((1, 1, 8, 8), np.float32))


def test_that_the_machine_was_unstable_is_said_where_it_was_measured_and_not_at_every_load(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runtime.selection.decide.UNSTABLE_SPREAD", -1.0)
    monkeypatch.setattr("runtime.engine.loader._warn", _warn.__wrapped__)  # without what it said before
    said = []
    for _ in range(2):
        with load("digits", settings) as model:
            (doubt,) = model.choice.doubts
        said.append(doubt in caplog.text)
        caplog.clear()
    assert said == [True, False]
    assert "`edgeward calibrate digits --force --budget 10`" in doubt


def test_wrong_inputs_are_named(settings: EngineSettings) -> None:
    with (
        load("digits", settings) as model,
        pytest.raises(InvalidInputError, match=r"float32 \[1, 8, 8\]; model 'digits'"),
    ):
        model.predict(np.zeros((1, 8, 8), np.float32))
    with (
        load("digits", settings) as model,
        pytest.raises(InvalidInputError, match="'image' is None; expected an array"),
    ):
        model.predict(None)  # type: ignore[arg-type]


def test_names_and_versions_that_are_not_there_are_answered_with_what_is(settings: EngineSettings) -> None:
    engine = Engine(settings)
    with pytest.raises(ModelNotFoundError, match="'digits' is not served here; served: none"):
        engine.model("digits")
    engine.load("digits")
    with pytest.raises(
        ModelNotFoundError, match="'digit' is not served here; served: 'digits'; did you mean 'digits'\\?"
    ):
        engine.model("digit")
    assert engine.model("digits", "1") is engine.model("digits")
    for version in ("2", "x", "1.0", "9" * 40):
        with pytest.raises(ModelNotFoundError, match="served: 1"):
            engine.model("digits", version)
    with pytest.raises(ModelNotFoundError, match="not in the repository; it holds 'digits'"):
        engine.reload("other")
    engine.close()


def test_a_folder_of_versions_follows_the_policy(digits: Bundle, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        folder = tmp_path / "net" / str(number)
        folder.mkdir(parents=True)
        shutil.copy(digits.root / "variants" / "fp32.onnx", folder / "model.onnx")
    engine = Engine(EngineSettings(QUICK_BARE, VersionPolicy.parse("latest:2"), tmp_path / "home"))
    assert engine.load(tmp_path / "net").version == 10
    assert engine.versions("net") == [2, 10]
    engine.close()
    with pytest.raises(BundleError, match="chooses none"):
        Engine(EngineSettings(QUICK_BARE, VersionPolicy.parse("specific:7"), tmp_path / "home")).load(tmp_path / "net")


QUICK_BARE = SelectionSettings(budget_s=0.2, isolate=False, backends=("onnxruntime-cpu",))


def test_loading_the_same_bundle_again_keeps_the_model(settings: EngineSettings) -> None:
    engine = Engine(settings)
    first = engine.load("digits")
    assert engine.reload("digits") is first
    engine.close()
    assert first.is_closed


def test_a_failed_reload_leaves_the_old_version_in_service(
    digits: Bundle, tmp_path: Path, settings: EngineSettings
) -> None:
    source = version_of(digits, tmp_path / "bundle", 1)
    engine = Engine(settings)
    first = engine.load(source)
    (source / "variants" / "fp32.onnx").write_bytes(b"flipped")
    version_of_manifest = json.loads((source / "manifest.json").read_text()) | {"description": "changed"}
    (source / "manifest.json").write_text(json.dumps(version_of_manifest))
    with pytest.raises(Exception, match=r"fp32\.onnx"):
        engine.reload("digits")
    assert engine.model("digits") is first
    (entry,) = engine.index()
    assert entry.state is ModelState.READY
    assert "loading it failed" in entry.reason
    engine.close()


def test_replacing_and_unloading_under_load_fails_no_call(
    digits: Bundle, tmp_path: Path, settings: EngineSettings
) -> None:
    source = version_of(digits, tmp_path / "bundle", 1)
    engine = Engine(settings)
    engine.load(source)
    image = np.zeros((1, 1, 8, 8), np.float32)
    stop = threading.Event()
    failures: list[Exception] = []
    answered = 0

    def ask() -> None:
        nonlocal answered
        while not stop.is_set():
            model = engine.model("digits")
            try:
                model.predict(image)
                answered += 1
            except ModelNotReadyError:
                assert engine.model("digits") is not model, "a model is closed only after its successor is in service"
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 5):
        version_of(digits, source, version)
        assert engine.reload("digits").version == version
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert answered > 0
    assert engine.versions("digits") == [4]
    engine.close()
    assert [entry.state for entry in engine.index()] == [ModelState.UNAVAILABLE] * 4


def test_close_waits_for_calls_in_flight(settings: EngineSettings) -> None:
    model = load("digits", settings)
    closed = threading.Event()
    with model.hold():
        thread = threading.Thread(target=lambda: (model.close(), closed.set()))
        thread.start()
        assert not closed.wait(0.05)
        model.run({"image": np.zeros((1, 1, 8, 8), np.float32)})
    thread.join(10)
    assert closed.is_set()


class FadingSession:
    """A session on a device that goes away."""

    inputs = (TensorSpec("image", "FP32", (-1, 1, 8, 8)),)
    outputs = (TensorSpec("probabilities", "FP32", (-1, 10)),)
    overlap = Overlap.SHARED
    passes_nan = False

    def __init__(self, backend: FadingBackend) -> None:
        self._backend = backend

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._backend.is_gone:
            raise BackendUnavailableError("the device fell off the bus")
        return self._backend.inner.run(inputs)

    def close(self) -> None:
        pass


class FadingBackend(OnnxRuntimeBackend):
    """ONNX Runtime on a device that can be pulled."""

    is_gone = False

    def __init__(self, model: Path) -> None:
        cpu = OnnxRuntimeBackend.cpu()
        super().__init__("fading-npu", cpu._provider)
        self.device = "npu"
        self.inner = cpu.open(model, RunOptions(1))

    def variations(self, hardware: object) -> tuple[Mapping[str, str], ...]:
        return ({},)

    def open(self, file: Path, options: RunOptions) -> FadingSession:  # type: ignore[override]
        return FadingSession(self)


def test_when_the_device_vanishes_the_next_candidate_answers(digits: Bundle, tmp_path: Path) -> None:
    fading = FadingBackend(digits.root / "variants" / "fp32.onnx")
    # Two candidates, both of which are looked at, however slow the machine is.
    selection = SelectionSettings(budget_s=0.2, isolate=False, variants=("fp32.onnx",), threads=1, memory_cap_mb=4000)
    engine = Engine(EngineSettings(selection, home=tmp_path), backends=[fading, OnnxRuntimeBackend.cpu()])
    model = engine.load("digits")
    if model.candidate.backend is not fading:  # put it first, whatever measured fastest today
        ranked = sorted(model.choice.ranked, key=lambda r: r.candidate.backend is not fading)
        model = Model(model.bundle, replace(model.choice, ranked=tuple(ranked)))
    assert model.candidate.backend is fading
    image = np.zeros((1, 1, 8, 8), np.float32)
    before = model.predict(image)["probabilities"]
    fading.is_gone = True
    np.testing.assert_allclose(model.predict(image)["probabilities"], before, atol=1e-6)
    assert model.candidate.backend.name == "onnxruntime-cpu"
    assert len(model.fallbacks) == 1
    assert "fell off the bus" in model.fallbacks[0]
    assert "took over" in model.fallbacks[0]
    engine.close()


def test_a_load_that_recalls_its_choice_imports_nothing_that_measures(settings: EngineSettings) -> None:
    if glance() is None:
        pytest.skip("only Linux has a word for a boot; elsewhere every load probes the machine")
    code = f"""
import sys
from pathlib import Path
from runtime.engine.load import load
from runtime.engine.loader import _warn
from runtime.engine.settings import EngineSettings
from runtime.selection.settings import SelectionSettings
quick = SelectionSettings(budget_s=0.1, isolate=False, backends=("onnxruntime-cpu",), variants=("fp32.onnx",))
load("digits", EngineSettings(selection=quick, home=Path({str(settings.home)!r}))).close()
print(sorted({{"runtime.selection.measure", "runtime.hardware.probing", "runtime.bundle.profile", "psutil"}} & set(sys.modules)))
"""
    said = []
    for _ in range(5):  # the first one measures; a device that appears meanwhile calls for a close look
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        said.append(done.stdout or done.stderr)
        if done.stdout == "[]\n":
            return
    pytest.fail(f"no load was without them: {said}")

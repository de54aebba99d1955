"""From a bundle to a choice, on fakes and on the real backends."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.backends.base import Backend
from runtime.backends.opened import open_variant
from runtime.backends.registry import all_backends
from runtime.bundle.bare import read_bare_file
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.errors import BundleError, NoCandidateError, WrongUseError
from runtime.hardware import probe
from runtime.selection import Objective, SelectionSettings, choose
from runtime.selection.choice import Choice
from tests.runtime.selection.fakes import SOURCE, FakeBackend, backends, machine, make_bundle

HERE = SelectionSettings(budget_s=0.3, isolate=False)
pytestmark = pytest.mark.usefixtures("time_for_every_look")
ROOT = Path(__file__).parents[3]


def names(choice: Choice) -> list[str]:
    return [ranked.candidate.variant.name for ranked in choice.ranked]


def test_the_fastest_that_is_right_is_chosen_explained_and_kept(tmp_path: Path) -> None:
    variants = {"ref": {"ms": 5.0}, "fast": {"ms": 0.2}, "wrong": {"ms": 0.01, "wrong": 1.0}, "bad": {"run": "raise"}}
    bundle = make_bundle(tmp_path / "b", variants, targets={"accuracy_floor": 0.9})
    said: list[tuple[str, float]] = []
    found = backends()
    choice = choose(bundle, machine(), found, HERE, tmp_path / "kept", lambda what, share: said.append((what, share)))
    assert names(choice) == ["fast", "ref"]
    assert choice.guard == "accuracy on 40 labelled samples"
    assert choice.selected.accuracy == 1.0
    assert choice.selected.cost.cost_ms(32) > choice.selected.cost.cost_ms(1)
    text = "\n".join(choice.verdicts)
    assert "is below the floor 90.0 %" in text
    assert "bad on fake-cpu, 1 thread: operator Foo is not implemented" in text
    assert "ref on absent-cuda: no GPU was found" in text
    assert len(choice.verdicts) == 4 + 4
    assert [share for _, share in said] == sorted(share for _, share in said)
    assert "trying ref on fake-cpu, 1 thread" in said[0][0]
    json.dumps(choice.to_dict())

    again = choose(bundle, machine(), found, HERE, tmp_path / "kept", None)
    assert again == replace(choice, from_cache=True)
    fresh = choose(bundle, machine(), found, replace(HERE, refresh=True), tmp_path / "kept", None)
    assert not fresh.from_cache


@pytest.mark.parametrize("has_samples", [True, False])
def test_the_reference_is_tried_first_only_where_its_answers_are_not_in_the_bundle(
    tmp_path: Path, has_samples: bool
) -> None:
    made = make_bundle(tmp_path / "b", {"ref": {}, "promising": {}}, samples=has_samples)
    manifest = json.loads((made.root / "manifest.json").read_text())
    manifest["variants"][0]["precision"] = "fp16"
    (made.root / "manifest.json").write_text(json.dumps(manifest))
    said: list[str] = []
    choice = choose(read_bundle(made.root), machine(), backends(), HERE, None, lambda what, share: said.append(what))
    assert said[0].startswith("trying promising" if has_samples else "trying ref")
    assert [ranked.agreement for ranked in choice.ranked] == [1.0, 1.0]


def test_a_kept_choice_opens_nothing(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"a": {}})
    found = backends()
    choose(bundle, machine(), found, HERE, tmp_path / "kept", None)
    opened = [list(backend.opened) for backend in found]  # type: ignore[attr-defined]
    choose(bundle, machine(), found, HERE, tmp_path / "kept", None)
    assert [backend.opened for backend in found] == opened  # type: ignore[attr-defined]


def test_a_corrupt_cache_is_measured_anew_said_and_rebuilt(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"a": {}})
    choose(bundle, machine(), backends(), HERE, tmp_path / "kept", None)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text(file.read_text()[:-100])
    choice = choose(bundle, machine(), backends(), HERE, tmp_path / "kept", None)
    assert not choice.from_cache
    assert any("is corrupt" in warning for warning in choice.warnings)
    healed = choose(bundle, machine(), backends(), HERE, tmp_path / "kept", None)
    assert healed.from_cache
    assert not any("corrupt" in warning for warning in healed.warnings)


def test_another_machine_or_bundle_is_measured_anew(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"a": {}})
    choose(bundle, machine(1), backends(), HERE, tmp_path / "kept", None)
    choice = choose(bundle, machine(2), backends(), HERE, tmp_path / "kept", None)
    assert not choice.from_cache
    assert any("the machine changed" in warning for warning in choice.warnings)
    other = make_bundle(tmp_path / "c", {"a": {"ms": 0.2}})
    assert not choose(other, machine(2), backends(), HERE, tmp_path / "kept", None).from_cache


def test_an_unwritable_home_still_gives_a_choice(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", {"a": {}})
    (tmp_path / "kept").write_text("no folder")
    choice = choose(bundle, machine(), backends(), HERE, tmp_path / "kept", None)
    assert names(choice) == ["a"]
    assert any("could not be kept" in warning for warning in choice.warnings)
    assert names(choose(bundle, machine(), backends(), HERE, None, None)) == ["a"]


@pytest.mark.parametrize(
    ("samples", "labels", "guard", "warning"),
    [
        (True, True, "accuracy on 40 labelled samples", None),
        (True, False, "agreement with a on 40 samples", "samples have no labels: accuracy is not guarded"),
        (False, False, "agreement with a on 64 random rows", "no samples: accuracy is not guarded"),
    ],
)
def test_what_guards_the_answers_is_said(
    tmp_path: Path, samples: bool, labels: bool, guard: str, warning: str | None
) -> None:
    bundle = make_bundle(tmp_path, {"a": {"ms": 0.3}, "b": {"wrong": 1.0, "ms": 0.01}}, samples=samples, labels=labels)
    choice = choose(bundle, machine(), backends(), HERE, None, None)
    assert names(choice) == ["a"]
    assert choice.guard == guard
    said = [text for text in choice.warnings if "guarded" in text]
    assert said == [] if warning is None else said[0].startswith(warning)


def test_a_reference_that_does_not_run_guards_nothing_without_samples(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"ref": {"run": "raise"}, "b": {}}, samples=False)
    choice = choose(bundle, machine(), backends(), HERE, None, None)
    assert names(choice) == ["b"]
    assert any("nothing is guarded" in text for text in choice.warnings)


def test_settings_may_raise_the_floor_and_filter(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}, "b": {"wrong": 0.2}}, targets={"accuracy_floor": 0.5})
    assert set(names(choose(bundle, machine(), backends(), HERE, None, None))) == {"a", "b"}
    strict = replace(HERE, accuracy_floor=0.99)
    assert names(choose(bundle, machine(), backends(), strict, None, None)) == ["a"]
    only = replace(HERE, variants=("b",), backends=("fake-cpu",))
    assert names(choose(bundle, machine(), backends(), only, None, None)) == ["b"]


def test_nothing_that_runs_lists_the_reasons(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {"run": "raise"}, "b": {"open": "raise"}})
    with pytest.raises(NoCandidateError, match=r"(?s)operator Foo.*operator set 99.*no GPU was found"):
        choose(bundle, machine(), backends(), HERE, None, None)


def test_damaged_samples_are_the_bundles_fault(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, {"a": {}})
    data = bytearray((tmp_path / "samples.npz").read_bytes())
    data[60] ^= 1
    (tmp_path / "samples.npz").write_bytes(bytes(data))
    with pytest.raises(BundleError, match="it was changed: copy the bundle again"):
        choose(bundle, machine(), backends(), HERE, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget_s": 0},
        {"trial_timeout_s": -1},
        {"accuracy_floor": 97},
        {"memory_cap_mb": 0},
        {"budget_s": float("nan")},
    ],
)
def test_settings_that_cannot_be_are_wrong_use(wrong: dict[str, float]) -> None:
    with pytest.raises(WrongUseError, match=next(iter(wrong))):
        SelectionSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="abort ends a process by a signal on POSIX only")
def test_crashes_hangs_and_hunger_cost_only_themselves(tmp_path: Path) -> None:
    variants = {
        "good": {"ms": 0.5},
        "crash": {"run": "abort"},
        "hang": {"run": "hang"},
        "eat": {"run": "eat"},
        "picky": {"needs_threads": 2, "ms": 0.5},
    }
    settings = SelectionSettings(budget_s=2.0, trial_timeout_s=2.0, trial_memory_mb=200, backend_source=SOURCE)
    choice = choose(make_bundle(tmp_path, variants), machine(2), backends(), settings, None, None)
    reasons = {f"{r.variant}, {r.options}": r.reason for r in choice.rejected if r.backend == "fake-cpu"}
    assert {ranked.candidate.key for ranked in choice.ranked} == {
        "good on fake-cpu, 1 thread",
        "good on fake-cpu, 2 threads",
        "picky on fake-cpu, 2 threads",
    }
    assert "SIGABRT" in reasons["crash, 1 thread"]
    assert "SIGABRT" in reasons["crash, 2 threads"]
    assert "SIGABRT" in reasons["picky, 1 thread"]
    assert reasons["hang, 2 threads"] == "it hung: no answer within 2 s"
    assert reasons["hang, 1 thread"] == "not tried, since 2 threads hung"
    assert "200 MB" in reasons["eat, 1 thread"]


def other_device() -> tuple[Backend, ...]:
    return (FakeBackend(), FakeBackend(name="fake-gpu", device="gpu"))


@pytest.mark.slow
def test_without_a_worker_only_the_reference_runs_here_and_it_is_said(tmp_path: Path) -> None:
    """What crashes would end this very process: the test itself could not tell."""
    variants = {"ref": {}, "faster": {"run": "abort"}}
    settings = replace(HERE, isolate=True, backend_source="no_such_module:backends")
    bundle, kept = make_bundle(tmp_path / "b", variants), tmp_path / "kept"
    choice = choose(bundle, machine(), other_device(), settings, kept, None)
    assert not kept.exists(), "the next load may find a process"
    assert [ranked.candidate.key for ranked in choice.ranked] == ["ref on fake-cpu, 1 thread"]
    left_out = {(r.variant, r.backend): r.reason for r in choice.rejected}
    assert set(left_out) == {("ref", "fake-gpu"), ("faster", "fake-cpu"), ("faster", "fake-gpu")}
    assert all("it could have taken this process with it" in reason for reason in left_out.values())
    assert any("process of its own" in text and "no_such_module" in text for text in choice.warnings)


@pytest.mark.slow
def test_without_a_worker_and_a_reference_that_runs_nothing_is_tried(tmp_path: Path) -> None:
    settings = replace(HERE, isolate=True, backend_source="no_such_module:backends")
    gone = (FakeBackend(reason="it is not installed"), FakeBackend(name="fake-gpu", device="gpu"))
    with pytest.raises(NoCandidateError, match="no other process can be started"):
        choose(make_bundle(tmp_path, {"ref": {}}), machine(), gone, settings, None, None)


# Real backends


@pytest.mark.slow
@pytest.mark.parametrize("objective", list(Objective))
def test_digits_on_the_real_backends(digits: Bundle, tmp_path: Path, objective: Objective) -> None:
    settings = SelectionSettings(budget_s=3.0, objective=objective)
    found = all_backends()
    choice = choose(digits, probe(), found, settings, tmp_path, None)
    floor = digits.manifest.targets.accuracy_floor if digits.manifest else None
    # All 450 on a quiet machine; on a busy one as many as the time for them allows, and never fewer than are asked for.
    guarded = re.fullmatch(r"accuracy on (\d+) labelled samples", choice.guard)
    assert guarded is not None
    assert 64 <= int(guarded[1]) <= 450
    assert all(r.accuracy is not None and r.accuracy >= (floor or 0) for r in choice.ranked)
    assert {r.candidate.variant.name for r in choice.ranked} >= {"fp32.onnx", "fp32.tflite"}
    assert [rows for rows, _ in choice.selected.cost.points] == [1, 8, 32]
    # What was chosen does run, and is as right as was said.
    samples = digits.samples()
    assert samples is not None
    selected = choice.selected.candidate
    opened = open_variant(digits, selected.variant, selected.backend, selected.options)
    outputs = opened.predict(samples.inputs)
    opened.close()
    first = outputs[opened.outputs[0].name]
    assert samples.labels is not None
    assert float((first.argmax(axis=1) == samples.labels).mean()) == pytest.approx(choice.selected.accuracy, abs=0.03)
    assert choose(digits, probe(), found, settings, tmp_path, None).from_cache


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "mnist/mnist_fp32.onnx",
        "mlperf_tiny/kws_int8.tflite",
        "mlperf_tiny/ic_resnet8_int8_qdq.onnx",
        "triton_simple/simple.onnx",
        "triton_simple/simple_int8.onnx",
        "triton_simple/simple_string.onnx",
        "triton_simple/simple_sequence.onnx",
    ],
)
def test_bare_files_nobody_here_trained(shared_models: Path, tmp_path: Path, file: str) -> None:
    bundle = read_bare_file(shared_models / file)
    choice = choose(bundle, probe(), all_backends(), SelectionSettings(budget_s=0.3), tmp_path, None)
    assert choice.selected.agreement == 1.0
    assert any("no samples: accuracy is not guarded" in text for text in choice.warnings)


WARM = """
import sys
from pathlib import Path
from runtime.backends.registry import all_backends
from runtime.bundle.bundle import read_bundle
from runtime.hardware import probe
from runtime.selection import SelectionSettings, choose
bundle = read_bundle(Path(sys.argv[1]))
choice = choose(bundle, probe(), all_backends(), SelectionSettings(budget_s=0.3), Path(sys.argv[2]), None)
engines = [name for name in ("onnxruntime", "ai_edge_litert", "torch", "openvino") if name in sys.modules]
print(choice.from_cache, engines)
"""


@pytest.mark.slow
def test_a_kept_choice_imports_no_engine(digits: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WARM, str(digits.root), str(tmp_path)]
    runs = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout.startswith("False")
    assert runs[1].stdout.strip() == "True []"

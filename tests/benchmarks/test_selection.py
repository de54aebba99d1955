"""The benchmark of selection: its networks run, its figures are what they are said to be, and a bar that is missed shows."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.selection import __main__ as program
from benchmarks.selection import bundles, models, networks, oracle
from benchmarks.selection.__main__ import MOST_TRIES
from benchmarks.selection.models import Material, Skipped, Subject, beside, subjects
from benchmarks.selection.oracle import Verdict
from benchmarks.selection.page import WIDTH, markdown
from benchmarks.selection.results import Result, bars
from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.registry import all_backends
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.hardware import probe
from runtime.selection.candidates import enumerate_candidates, rejected_because
from runtime.selection.choice import Choice
from runtime.selection.settings import Objective
from runtime.selection.trying import UNTRIED

GOOD = Result(
    name="net",
    chosen="a",
    best="a",
    regret=0.0,
    candidates=2,
    rejected=[],
    accuracy=0.95,
    agreement=1.0,
    floor=0.9,
    variants=["fp32.onnx", "int8.onnx"],
    left_out={"fp16.onnx": "it was not asked for", "*.pt2": "made of | a program", "*.tflite": "made of | a program"},
    trial_s=1.0,
    measuring_s=2.0,
    loading_s=0.5,
    budget_s=3.0,
    gain_turns=[[2.0, 1.0, 1.25], [3.0, 1.0, 1.5], [8.0, 4.0, 5.0]],
    start_turns=[[10.0, 12.0], [10.0, 11.0], [10.0, 30.0]],
    first_turns=[[20.0, 22.0], [20.0, 21.0], [20.0, 40.0]],
)

ENVIRONMENT = {
    "commit": "c0ffee", "cpu": "a processor", "hardware_text": {"cores allowed": "2", "instruction sets": "AVX2"},
    "kernel": "6", "python": "3.11",
    "libraries": {"onnxruntime": "1.32.0"}, "load_before": [0.1, 0.2, 0.3], "hardware": {"cores": {"threads": 2}},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "shape_in", "size_out"),
    [
        (lambda: networks.resnet(18, 32), (3, 32, 32), 1000),
        (lambda: networks.resnet(50, 32), (3, 32, 32), 1000),
        (lambda: networks.mobilenet_v2(32), (3, 32, 32), 1000),
        (lambda: networks.transformer(8, 32, 2, 1), (8, 32), 16),
        (lambda: networks.perceptron(4, 8), (4,), 8),
        (lambda: networks.boosted_trees(4, 5, 3), (4,), 1),
    ],
    ids=["resnet-18", "resnet-50", "mobilenet-v2", "transformer", "perceptron", "boosted-trees"],
)
def test_networks_are_valid_and_tell_rows_apart(
    tmp_path: Path, build: Callable[[], onnx.ModelProto], shape_in: tuple[int, ...], size_out: int
) -> None:
    model = build()
    onnx.checker.check_model(model, full_check=True)
    file = tmp_path / "network.onnx"
    onnx.save(model, str(file))
    session = OnnxRuntimeBackend.cpu().open(file, RunOptions(1))
    rows = np.random.default_rng(0).uniform(0, 1, (3, *shape_in)).astype(np.float32)
    answers = session.run({"x": rows})["y"]
    session.close()
    assert answers.shape == (3, size_out)
    assert np.isfinite(answers).all()
    assert len(np.unique(answers, axis=0)) == 3


@pytest.mark.slow
def test_resnet_50_and_mobilenet_have_the_weights_they_are_known_for() -> None:
    def count(model: onnx.ModelProto) -> int:
        return sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)

    # torchvision counts 25.6, 11.7 and 3.5 million, with a scale and a shift for every channel.
    assert count(networks.resnet(50)) == pytest.approx(25.5e6, rel=0.01)
    assert count(networks.resnet(18)) == pytest.approx(11.7e6, rel=0.01)
    assert count(networks.mobilenet_v2()) == pytest.approx(3.5e6, rel=0.01)


def test_there_are_at_least_eight_models_and_half_of_them_need_nothing_beside_us() -> None:
    assert len(subjects()) >= 8
    with pytest.raises(Skipped, match="not beside the checkout"):
        beside("no/such.onnx")


def test_regret_is_of_pairs_and_never_negative() -> None:
    assert Verdict("a", {}, ()).regret == 0.0
    assert Verdict("a", {}, ((1.1, 1.0), (1.2, 1.0), (5.0, 1.0))).regret == pytest.approx(0.2)
    assert Verdict("a", {}, ((0.9, 1.0),)).regret == 0.0


def test_gain_and_start_are_medians_of_ratios() -> None:
    assert GOOD.gain == 2.0
    assert GOOD.whole_gain == 1.6
    assert GOOD.start == 1.2
    assert GOOD.first == 1.1
    assert GOOD.start_extra_ms == 2.0


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, None),
        ({"regret": 0.06}, "regret, worst"),
        ({"accuracy": 0.8}, "choices below the floor: bad"),
        ({"trial_s": 4.0}, "beyond their budget: bad (6.0 s)"),
        ({"gain_turns": [[0.9, 1.0, 0.9]]}, "gain, least: 0.90 × (bad)"),
        ({"gain_turns": [[0.9, 0.9, 1.0]]}, "gain of `predict`, least: 0.90 × (bad)"),
        ({"start_turns": [[1.0, 1.4]]}, "start, worst: 1.40 × (bad)"),
    ],
)
def test_a_bar_that_is_missed_shows(change: dict[str, object], missed: str | None) -> None:
    results = [replace(GOOD, name=f"net-{at}") for at in range(8)] + [replace(GOOD, name="bad", **change)]  # type: ignore[arg-type]
    found = [text for text, is_held in bars(results) if not is_held]
    assert found == [] if missed is None else len(found) == 1 and missed in found[0]
    environment = ENVIRONMENT
    table = markdown(results, {"gone": "not here"}, {"broken": "no operator"}, environment, "2026-01-01T00:00:00+00:00")
    assert table.count("\n| ") == 2 * 10
    assert "\n- net-0: fp32.onnx, int8.onnx\n" in table
    assert "\n- fp16.onnx of net-0, net-1," in table
    assert table.count("made of |") == 1
    assert max(map(len, table.splitlines())) <= WIDTH
    assert ("**missed**" in table) == (missed is not None)
    assert "skipped: gone (not here)" in table
    assert "**failed**: broken (no operator)" in table
    assert "unstable" not in table
    assert "loaded machine" not in table
    loaded = {**environment, "load_after": [9.5, 1.0, 1.0]}
    assert "**loaded machine**: up to 9.5 programs wanted its 2 cores" in markdown(
        results, {}, {}, loaded, "2026-01-01"
    )
    other = [replace(GOOD, best="b, which is another", gain_turns=None)]
    told = markdown(other, {}, {}, environment, "2026-01-01")
    assert "\n- best of net: b, which is another\n" in told
    assert "| net | a | 2 | 0.0% | – | – |" in told
    noisy = [replace(GOOD, warnings=["this machine is unstable: ..."])]
    assert "unstable while these were calibrated: net" in markdown(
        noisy, {}, {}, environment, "2026-01-01T00:00:00+00:00"
    )


def test_without_an_onnx_file_there_is_no_gain_to_tell() -> None:
    assert not [text for text, _ in bars([replace(GOOD, gain_turns=None)]) if "gain" in text]


@pytest.mark.slow
def test_a_network_is_handed_over_as_a_program_where_pytorch_is_and_as_an_onnx_file_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made of each, `tests/runtime/building` has; that the program computes what the graph does, `test_gpu`."""
    (subject,) = (subject for subject in subjects() if subject.name == "perceptron")
    assert subject.prepare is not None
    material = subject.prepare(tmp_path)
    assert material.source.name == ("model.pt2" if find_spec("torch") else "model.onnx")
    assert material.source.is_file()
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    material = subject.prepare(tmp_path)
    assert material.source.name == "model.onnx"
    onnx.checker.check_model(onnx.load(str(material.source)))
    assert len(material.inputs["x"]) >= material.flags["calibration_rows"]


@pytest.mark.slow
def test_a_bundle_is_built_as_users_build_theirs_and_kept(tmp_path: Path) -> None:
    (subject,) = (subject for subject in subjects() if subject.name == "boosted-trees")
    bundle = read_bundle(Path(bundles.source_of(subject, tmp_path)))
    kinds = {variant.name for variant in bundle.variants}
    assert "fp32.onnx" in kinds
    asked = {"fp16.onnx", "int8.onnx", "int8-avx2.onnx"}
    assert asked <= kinds | set(bundles.left_out(bundle))
    manifest = bundle.manifest
    assert manifest is not None
    assert manifest.provenance["made_by"].startswith("edgeward bundle build")
    assert all(variant.agreement is not None and variant.agreement >= models.FLOOR for variant in bundle.variants)
    before = (bundle.root / "manifest.json").stat().st_mtime_ns
    assert bundles.source_of(subject, tmp_path) == str(bundle.root)
    assert (bundle.root / "manifest.json").stat().st_mtime_ns == before


def test_a_model_that_is_not_here_is_skipped_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SHARED", tmp_path / "nowhere")
    subject = next(subject for subject in subjects() if subject.name == "mnist")
    with pytest.raises(Skipped, match="mnist_test_1000.npz is not beside the checkout"):
        bundles._build(subject, tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


@pytest.mark.slow
def test_a_build_that_is_refused_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"no model")
    material = Material(source, {"x": np.zeros((20, 4), np.float32)})
    subject = Subject("broken", lambda folder: material)
    monkeypatch.setattr(bundles, "subjects", lambda: (subject,))
    assert bundles.main([str(tmp_path / "bundles"), "broken"]) == 1
    assert not bundles.folder_of("broken", tmp_path / "bundles").exists()


def test_the_oracle_knows_whom_selection_left_untried(tmp_path: Path) -> None:
    """Or a choice among the few that the budget was enough for would seem the best of all."""
    bundle = read_bundle(shipped_bundles()["digits"])
    everyone, _ = enumerate_candidates(bundle, probe(), all_backends())
    skipped, hung, far = everyone[:3]
    rejected = (
        rejected_because(skipped, f"{UNTRIED}: no time was left for it"),
        rejected_because(hung, "it hung: no answer within 30 s"),
        rejected_because(far, f"{UNTRIED}, since it is far behind"),
    )
    choice = Choice(bundle.name, bundle.version, Objective.LATENCY, (), rejected, "nothing", ())
    assert [c.key for c in oracle._untried(bundle, choice)] == [skipped.key, far.key]


def test_a_start_that_is_not_told_by_a_bare_engine_is_marked_and_not_counted() -> None:
    results = [GOOD, replace(GOOD, name="other", is_start_bare=False, cold_start_turns=[[1.0, 1.4]])]
    (told,) = (text for text, _ in bars(results) if text.startswith("start"))
    assert told == "start, worst: 1.20 × (net), at most 1.3 (1 of 1 by a bare engine)"
    page = markdown(results, {}, {}, ENVIRONMENT, "2026-01-01")
    assert "| net | 1.20 × | 2.00 ms | – |" in page
    assert "| other | 1.20 × † | 2.00 ms | 1.40 × |" in page


@pytest.mark.parametrize(
    ("oracle_ms", "gain_ms", "is_steady"),
    [(1.0, 1.2, True), (1.3, 1.0, False), (1.0, 0.7, False), (1.0, 1.3, False)],
    ids=["as calibrated", "slower before the oracle", "faster beside the default", "slower beside the default"],
)
def test_a_machine_that_changed_after_the_calibration_shows_in_what_was_chosen(
    oracle_ms: float, gain_ms: float, is_steady: bool
) -> None:
    turns = [[2.0, gain_ms, 2.0]] * 3
    result = replace(GOOD, calibrated_ms=1.0, ms_by_candidate={"a": oracle_ms, "b": 9.0}, gain_turns=turns)
    assert result.is_steady is is_steady
    assert replace(result, calibrated_ms=None).is_steady, "kept results of before that was told"


def test_what_is_unsteady_is_measured_again_and_both_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = replace(GOOD, calibrated_ms=1.0, ms_by_candidate={"a": 1.0})
    unsteady = replace(told, ms_by_candidate={"a": 2.0})
    for found, tries, said in (
        ([unsteady, told], 2, "measured anew: net (2 times)"),
        ([unsteady] * MOST_TRIES, MOST_TRIES, f"each time it was measured: net ({MOST_TRIES} times)"),
        ([told], 1, None),
    ):
        left = list(found)
        monkeypatch.setattr(program, "_measure_once", lambda *given, left=left: left.pop(0))
        result = program.measure("net", "somewhere", oracle.QUICK, 1.0, 0)
        assert (result.tries, len(left)) == (tries, 0)
        page = " ".join(markdown([result], {}, {}, ENVIRONMENT, "2026").split())
        told_again = "measured anew" in page or "each time it was measured" in page
        assert told_again == (said is not None)
        assert said is None or said in page

"""The benchmark of selection: its networks run, its figures are what they are said to be, and a bar that is missed shows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.selection import networks
from benchmarks.selection.models import Skipped, _beside, subjects
from benchmarks.selection.oracle import Verdict
from benchmarks.selection.results import Result, bars, markdown
from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend

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
    trial_s=1.0,
    measuring_s=2.0,
    loading_s=0.5,
    budget_s=3.0,
    gain_turns=[[2.0, 1.0, 1.25], [3.0, 1.0, 1.5], [8.0, 4.0, 5.0]],
    start_turns=[[10.0, 12.0], [10.0, 11.0], [10.0, 30.0]],
    first_turns=[[20.0, 22.0], [20.0, 21.0], [20.0, 40.0]],
)


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
        _beside("no/such.onnx")


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
    environment = {
        "commit": "c0ffee", "cpu": "a processor", "hardware_text": {"cores allowed": "2"}, "kernel": "6", "python": "3.11",
        "libraries": {"onnxruntime": "1.32.0"}, "load_before": [0.1, 0.2, 0.3], "hardware": {"cores": {"threads": 2}},
    }  # fmt: skip
    table = markdown(results, {"gone": "not here"}, {"broken": "no operator"}, environment, "2026-01-01T00:00:00+00:00")
    assert table.count("\n| ") == 10
    assert ("**missed**" in table) == (missed is not None)
    assert "skipped: gone (not here)" in table
    assert "**failed**: broken (no operator)" in table
    assert "unstable" not in table
    assert "loaded machine" not in table
    loaded = {**environment, "load_after": [9.5, 1.0, 1.0]}
    assert "**loaded machine**: up to 9.5 programs wanted its 2 cores" in markdown(
        results, {}, {}, loaded, "2026-01-01"
    )
    noisy = [replace(GOOD, warnings=["this machine is unstable: ..."])]
    assert "unstable while these were calibrated: net" in markdown(
        noisy, {}, {}, environment, "2026-01-01T00:00:00+00:00"
    )


def test_without_an_onnx_file_there_is_no_gain_to_tell() -> None:
    assert not [text for text, _ in bars([replace(GOOD, gain_turns=None)]) if "gain" in text]

"""Chances of classes, also of models whose outputs are quantised: real int8 files, and what only looks alike."""

from pathlib import Path

import numpy as np
import pytest

from cloud_gateway.automation.answers import suggestion_of
from cloud_gateway.automation.chances import chances_of
from runtime.backends.base import RunOptions
from runtime.backends.litert import LiteRTBackend
from runtime.bundle.bundle import Bundle
from runtime.engine.load import load
from runtime.engine.settings import EngineSettings
from runtime.selection.settings import SelectionSettings


@pytest.mark.parametrize("name", ["kws_int8.tflite", "ic_resnet8_int8.tflite"])
def test_a_real_int8_model_is_as_sure_as_its_scale_says(shared_models: Path, name: str) -> None:
    file = shared_models / "mlperf_tiny" / name
    from ai_edge_litert.interpreter import Interpreter

    (oracle,) = Interpreter(model_path=str(file)).get_output_details()
    scale, zero_point = oracle["quantization"]
    session = LiteRTBackend().open(file, RunOptions(1))
    (spec,) = session.inputs
    rows = np.random.default_rng(0).integers(-128, 127, (6, *spec.shape[1:])).astype(np.int8)
    (raw,) = session.run({spec.name: rows}).values()
    session.close()
    assert raw.dtype == np.int8
    said = suggestion_of({"scores": raw})
    expected = (raw.astype(np.float64) - zero_point) * scale
    assert said.answer == raw.argmax(1).tolist()
    assert said.confidences == pytest.approx(expected.max(1))
    assert said.confidence == pytest.approx(expected.max(1).min())


@pytest.mark.parametrize("variant", ["int8.tflite", "int8.onnx"])
def test_an_int8_variant_that_ships_is_sure(digits: Bundle, variant: str, tmp_path: Path) -> None:
    samples = digits.samples()
    assert samples is not None
    chosen = SelectionSettings(budget_s=0.2, isolate=False, variants=(variant,))
    with load(digits.root, EngineSettings(chosen, home=tmp_path)) as model:
        outputs = model.predict({"image": samples.inputs["image"][:40]})
    sums = outputs["probabilities"].sum(axis=1)
    assert (np.abs(sums - 1) > 0.002).any(), "quantised: they do not add up"
    said = suggestion_of(outputs)
    assert said.confidence is not None
    assert len(said.confidences) == 40


@pytest.mark.parametrize(
    "scores",
    [
        np.array([[3.0, -1.0]], np.float32),
        np.array([[0.31, 0.66]], np.float32),  # multi-label, and off by more than rounding
        np.array([[12, -7, 40]], np.int8),  # logits
        np.array([[200, 130]], np.uint8),
        np.array([[5, 3]], np.int32),
        np.full((1, 2), np.nan, np.float32),
        np.full((2, 1000), -128, np.int8),
    ],
)
def test_what_is_no_distribution_gives_no_confidence(scores: np.ndarray) -> None:  # type: ignore[type-arg]
    assert chances_of(scores) is None
    assert suggestion_of({"y": scores}).confidence is None
    assert suggestion_of({"y": scores}).confidences == ()

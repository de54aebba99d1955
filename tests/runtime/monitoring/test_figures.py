"""A model's figures beside the targets of its manifest."""

from __future__ import annotations

from runtime.bundle.bundle import Bundle
from runtime.monitoring.figures import Measured, figures


def test_each_figure_stands_beside_its_own_target(digits: Bundle) -> None:
    assert digits.manifest is not None
    manifest = digits.manifest.model_copy(update={"provenance": {"training_accuracy": "0.999"}})
    accuracy, latency, rate = figures(
        manifest, "int8.onnx", Measured(0.9889, 0.31, 8000.0), Measured(0.97, 12.3), estimated_accuracy=0.98
    )
    assert accuracy == {
        "figure": "accuracy",
        "target": 0.975,
        "training": 0.999,
        "dev": 0.991111,
        "test": 0.9889,
        "live": 0.97,
        "estimated": 0.98,
    }
    assert (latency["target"], latency["test"], latency["live"]) == (10.0, 0.31, 12.3)
    assert (rate["target"], rate["test"], rate["live"]) == (200.0, 8000.0, None)


def test_of_a_bare_file_nothing_is_asked() -> None:
    told = figures(None, "model.onnx", Measured(), Measured(), None)
    assert {figure["target"] for figure in told} == {None}

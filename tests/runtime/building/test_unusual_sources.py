"""Builds from sources and rows that are unlike most: numbers that are none, regression, int8 sources, values in another range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.opened import open_variant
from runtime.building.build import BuildReport, build_bundle
from runtime.building.check import check_accuracy
from runtime.building.isolated import Limits
from runtime.building.request import parse_steps, read_request
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.bundle.manifest import Task
from runtime.errors import BundleError, WrongUseError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from tests.runtime.building.sources import save_close_scores, save_linear  # noqa: E402  (needs onnx)

pytestmark = pytest.mark.slow

ONLY_INT8 = ("fp16.onnx", "int8-avx2.onnx")
AS_IT_IS = (*ONLY_INT8, "int8.onnx")


def build(source: Path, rows: Path, out: Path, steps: tuple[str, ...] = (), **flags: Any) -> BuildReport:
    asked = {"preprocess": parse_steps(steps) or None, "without": ONLY_INT8, **flags}
    return build_bundle(source, out, rows, read_request(None, asked))


def reasons(report: BuildReport) -> dict[str, str]:
    manifest = report.bundle.manifest
    assert manifest is not None
    return {left.name: left.reason for left in manifest.left_out}


def test_a_variant_below_the_floor_is_left_out_with_its_accuracy(tmp_path: Path) -> None:
    source, rows = save_close_scores(tmp_path)
    report = build(source, rows, tmp_path / "out", accuracy_floor=0.95)
    assert [variant.name for variant in report.bundle.variants] == ["fp32.onnx"]
    assert reasons(report)["int8.onnx"].endswith("is below the floor 95.0 %")
    (told,) = [one for one in report.variants if one.name == "int8.onnx"]
    assert told.accuracy is not None
    assert told.accuracy < 0.7
    assert told.reason == reasons(report)["int8.onnx"]


def test_rows_that_are_no_numbers_measure_and_do_not_calibrate(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "m.onnx", np.eye(3))
    x = np.random.default_rng(1).uniform(-1, 1, (60, 3)).astype(np.float32)
    x[::10, 1] = np.nan
    x[5, 0] = np.inf
    np.savez(tmp_path / "rows.npz", x=x)
    report = build(source, tmp_path / "rows.npz", tmp_path / "out", task=Task.CLASSIFICATION)
    assert "7 hold NaN or infinity and do not calibrate" in report.split
    assert any("of the source is NaN or infinite on some rows" in text for text in report.warnings)
    assert [variant.name for variant in report.bundle.variants] == ["fp32.onnx", "int8.onnx"]
    samples = report.bundle.samples()
    assert samples is not None
    broken = np.isnan(samples.inputs["x"]).any(axis=1)
    assert broken.sum() == 6, "all of them are held out"
    is_infinite = np.isinf(samples.inputs["x"]).any(axis=1)  # fp32 makes NaN of it, int8 the end of its range
    for variant in report.bundle.variants:
        opened = open_variant(report.bundle, variant, OnnxRuntimeBackend.cpu(), RunOptions())
        seen = opened.predict(samples.inputs)["y"]
        np.testing.assert_array_equal(np.isnan(seen).any(axis=1)[~is_infinite], broken[~is_infinite], variant.name)
        assert opened.predict({"x": x[:0]})["y"].shape == (0, 3)
        opened.close()
    assert [check.problem for check in check_accuracy(report.bundle, Limits())] == [None, None]


def test_without_a_row_of_numbers_nothing_is_calibrated(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "m.onnx", np.eye(2))
    x = np.ones((20, 2), np.float32)
    x[:, 0] = np.nan
    np.savez(tmp_path / "rows.npz", x=x)
    report = build(source, tmp_path / "rows.npz", tmp_path / "out")
    assert reasons(report)["int8.onnx"] == "it is calibrated on rows without NaN or infinity; there are none"
    assert [variant.name for variant in report.bundle.variants] == ["fp32.onnx"]


def test_numbers_as_labels_make_a_regression(tmp_path: Path) -> None:
    weight = np.array([[2.0], [-1.0], [0.5]])
    source = save_linear(tmp_path / "m.onnx", weight)
    generator = np.random.default_rng(2)
    x = generator.uniform(0, 1, (120, 3)).astype(np.float32)
    labels = (x @ weight)[:, 0] + generator.normal(0, 0.05, 120)
    np.savez(tmp_path / "rows.npz", x=x, labels=labels)
    report = build(source, tmp_path / "rows.npz", tmp_path / "out")
    manifest = report.bundle.manifest
    assert manifest is not None
    assert manifest.task is Task.REGRESSION
    samples = report.bundle.samples()
    assert samples is not None
    assert samples.labels is not None
    assert samples.labels.dtype == np.float64
    for variant in report.bundle.variants:
        assert variant.accuracy is None, "a share of right answers says nothing of numbers"
        assert variant.agreement is not None
    assert any("it is off by 0.0" in text for text in report.warnings)


def test_a_regressor_on_wrong_rows_is_refused_with_the_likely_cause(tmp_path: Path) -> None:
    weight = np.array([[2.0], [-1.0], [0.5]])
    source = save_linear(tmp_path / "m.onnx", weight)
    generator = np.random.default_rng(2)
    x = generator.uniform(0, 1, (120, 3)).astype(np.float32)
    labels = (x @ weight)[:, 0] + generator.normal(0, 0.05, 120)
    np.savez(tmp_path / "bytes.npz", x=x * 255, labels=labels)
    with pytest.raises(BundleError, match=r"likely wrong: it is off by 0\.0.* wants 0\.\.1, not 0\.\.255"):
        build(source, tmp_path / "bytes.npz", tmp_path / "bytes", without=ONLY_INT8)
    np.savez(tmp_path / "strange.npz", x=x, labels=generator.permutation(labels) + 7)
    with pytest.raises(BundleError, match="no usual mistake of preprocessing explains it .* leave the labels out"):
        build(source, tmp_path / "strange.npz", tmp_path / "strange", without=ONLY_INT8)
    np.savez(tmp_path / "coarse.npz", x=x, labels=labels + generator.normal(0, 0.3, 120))
    report = build(source, tmp_path / "coarse.npz", tmp_path / "coarse", without=AS_IT_IS)
    assert any("it is off by 0.2" in text for text in report.warnings), "no alteration makes noise in the labels less"


def test_labels_in_words_are_compared_with_no_number(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "m.onnx", np.array([[2.0], [-1.0]]))
    x = np.random.default_rng(2).uniform(0, 1, (40, 2)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, labels=np.array(["low", "high"] * 20))
    report = build(source, tmp_path / "rows.npz", tmp_path / "out", without=AS_IT_IS, task=Task.REGRESSION)
    assert any("are no numbers, so they are compared with nothing" in text for text in report.warnings)


def test_an_int8_source_with_floats_outside_is_taken_as_it_is(digits: Bundle, tmp_path: Path) -> None:
    samples = digits.samples()
    assert samples is not None
    np.savez(tmp_path / "rows.npz", image=samples.inputs["image"], labels=samples.labels)
    source = digits.path_of(next(v for v in digits.variants if v.name == "int8.onnx"))
    report = build(source, tmp_path / "rows.npz", tmp_path / "out", without=(), accuracy_floor=0.95)
    (variant,) = report.bundle.variants
    assert (variant.name, variant.precision) == ("int8.onnx", "int8")
    assert variant.accuracy is not None
    assert variant.accuracy >= 0.95
    manifest = report.bundle.manifest
    assert manifest is not None
    assert [t.datatype for t in (*manifest.inputs, *manifest.outputs)] == ["FP32", "FP32"]
    for name in ("fp16.onnx", "int8-avx2.onnx"):
        assert reasons(report)[name] == "the source is int8 already; it is made from fp32"
    assert [check.problem or check.unchecked for check in check_accuracy(read_bundle(tmp_path / "out"), Limits())] == [
        None
    ]


def test_bytes_for_a_model_of_shares_are_refused_with_the_cause(tmp_path: Path) -> None:
    clip = onnx.helper.make_node("HardSigmoid", ["product"], ["y"], alpha=1.0, beta=0.0)  # all of 0..255 become 1
    source = save_linear(tmp_path / "m.onnx", np.eye(3), clip)
    labels = np.arange(120) % 3
    x = np.random.default_rng(3).integers(2, 100, (120, 3))
    x[np.arange(120), labels] += 100
    np.savez(tmp_path / "rows.npz", x=x.astype(np.float32), labels=labels)
    with pytest.raises(BundleError, match=r"likely wrong: the accuracy is 100\.00%.*declare `scale:1/255`"):
        build(source, tmp_path / "rows.npz", tmp_path / "out", accuracy_floor=0.9)
    assert not (tmp_path / "out").exists()
    right = build(
        source, tmp_path / "rows.npz", tmp_path / "out", ("scale:1/255",), accuracy_floor=0.9, without=AS_IT_IS
    )
    assert right.bundle.variants[0].accuracy == 1.0


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "m.onnx", np.eye(3))
    np.savez(tmp_path / "rows.npz", x=np.zeros((0, 3), np.float32))
    with pytest.raises(WrongUseError, match=r"holds rows \{'x': 0\}.*at least 10"):
        build(source, tmp_path / "rows.npz", tmp_path / "out")

"""Builds from start to end, on a tiny ONNX classifier of images: what is kept, what is left out, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
from runtime.bundle.bundle import read_bundle
from runtime.bundle.manifest import Task
from runtime.bundle.writing import MANIFEST_FILE
from runtime.errors import BundleError, WrongUseError

Classifier = Callable[..., Path]
STEPS = ["layout:NCHW", "cast:FP32"]

pytestmark = pytest.mark.slow


def build(source: Path, rows: Path, out: Path, steps: list[str], **flags: Any) -> BuildReport:
    return build_bundle(source, out, rows, read_request(None, {"preprocess": parse_steps(steps) or None, **flags}))


@pytest.fixture(scope="module")
def report(classifier: Classifier, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    out = tmp_path_factory.mktemp("built") / "brightest"
    return build(classifier(), rows_file, out, STEPS, name="brightest", accuracy_floor=0.95)


def test_every_onnx_variant_is_made_measured_and_kept(report: BuildReport) -> None:
    manifest = report.bundle.manifest
    assert manifest is not None
    assert [v.name for v in manifest.variants] == ["fp32.onnx", "fp16.onnx", "int8.onnx", "int8-avx2.onnx"]
    assert [v.precision for v in manifest.variants] == ["fp32", "fp16", "int8", "int8"]
    for variant in manifest.variants:
        assert variant.accuracy is not None
        assert variant.accuracy >= 0.95
        assert variant.agreement is not None
        assert variant.fixed_batch is None
    assert {left.name for left in manifest.left_out} == {"*.tflite", "*.pt2"}
    assert manifest.task is Task.CLASSIFICATION
    assert "60 others are held out" in manifest.provenance["split"]
    assert report.bundle.profile() is not None


def test_the_samples_are_the_held_out_rows_as_callers_send_them(
    report: BuildReport, images: np.ndarray, labels: np.ndarray
) -> None:
    samples = report.bundle.samples()
    assert samples is not None
    assert samples.labels is not None
    assert (samples.inputs["image"].dtype, len(samples)) == (np.uint8, 60)
    known = {row.tobytes(): label for row, label in zip(images, labels, strict=True)}
    assert [known[row.tobytes()] for row in samples.inputs["image"]] == samples.labels.tolist()


def test_what_is_served_is_what_was_measured(report: BuildReport, images: np.ndarray, labels: np.ndarray) -> None:
    bundle = report.bundle
    for variant in bundle.variants:
        opened = open_variant(bundle, variant, OnnxRuntimeBackend.cpu(), RunOptions())
        assert np.mean(opened.predict({"image": images})["scores"].argmax(axis=1) == labels) >= 0.95
        opened.close()


def test_a_check_of_the_bundle_holds_until_the_manifest_claims_more(report: BuildReport, tmp_path: Path) -> None:
    checks = check_accuracy(report.bundle, Limits())
    assert [check.problem or check.unchecked for check in checks] == [None] * 4
    wrong = tmp_path / "wrong"
    shutil.copytree(report.bundle.root, wrong)
    said = json.loads((wrong / MANIFEST_FILE).read_text())
    said["inputs"][0]["preprocess"].insert(0, {"step": "reorder", "order": [1, 2, 0]})
    (wrong / MANIFEST_FILE).write_text(json.dumps(said))
    wrong_checks = check_accuracy(read_bundle(wrong), Limits())
    assert len(wrong_checks) == 4
    for check in wrong_checks:
        assert check.problem is not None
        assert "the manifest says 100.00%" in check.problem


def test_a_fixed_batch_is_mapped(classifier: Classifier, rows_file: Path, tmp_path: Path) -> None:
    flags = {"without": ("fp16.onnx", "int8-avx2.onnx")}
    report = build(classifier(batch=2, opset=11), rows_file, tmp_path / "two", STEPS, **flags)
    manifest = report.bundle.manifest
    assert manifest is not None
    assert manifest.inputs[0].shape == (-1, 4, 4, 3)
    assert [(v.name, v.fixed_batch) for v in manifest.variants] == [("fp32.onnx", 2), ("int8.onnx", 2)]
    assert {left.name: left.reason for left in manifest.left_out}["fp16.onnx"] == "it was not asked for"


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        (["layout:NCHW", "scale:1/255"], "multiplied by 255: the model wants 0..255"),
        (["reorder:2,1,0", "layout:NCHW", "cast:FP32"], "channels in reverse"),
    ],
)
def test_wrong_preprocessing_is_refused_with_its_cause(
    classifier: Classifier, rows_file: Path, tmp_path: Path, steps: list[str], cause: str
) -> None:
    with pytest.raises(BundleError, match=rf"(?s)right in \d.*likely wrong: the accuracy is (9|100)\d?\..*{cause}"):
        build(classifier(), rows_file, tmp_path / "wrong", steps)
    assert not (tmp_path / "wrong").exists()


def test_labels_of_something_else_have_no_usual_cause(
    classifier: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    labels = np.random.default_rng(0).integers(0, 3, len(images))
    np.savez(tmp_path / "rows.npz", images=images, labels=labels)
    with pytest.raises(BundleError, match="no usual mistake of preprocessing explains it"):
        build(classifier(), tmp_path / "rows.npz", tmp_path / "wrong", STEPS)


def test_rows_that_do_not_fit_are_refused_with_the_steps_that_would(
    classifier: Classifier, rows_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        WrongUseError, match=r"wants FP32 \[batch, 3, 4, 4\].*--preprocess layout:NCHW --preprocess cast:FP32"
    ):
        build(classifier(), rows_file, tmp_path / "out", [])
    flat = tmp_path / "flat.npz"
    np.savez(flat, images=np.zeros((12, 48), np.float32))
    with pytest.raises(WrongUseError, match="resize takes images of 4 dimensions"):
        build(classifier(), flat, tmp_path / "out", ["resize:4x4"])


def test_labels_beyond_the_classes_are_refused(classifier: Classifier, images: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", images=images, labels=np.arange(len(images)) % 4)
    with pytest.raises(WrongUseError, match="go from 0 to 3, but output 'scores'.*0 to 2"):
        build(classifier(), tmp_path / "rows.npz", tmp_path / "out", STEPS)


def test_without_labels_agreement_alone_counts_and_it_says_so(
    classifier: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "rows.npz", images=images)
    flags = {"task": Task.CLASSIFICATION, "without": ("fp16.onnx", "int8-avx2.onnx")}
    report = build(classifier(), tmp_path / "rows.npz", tmp_path / "out", STEPS, **flags)
    assert any("no labels" in text for text in report.warnings)
    for variant in report.bundle.variants:
        assert variant.accuracy is None
        assert variant.agreement is not None


def test_a_folder_that_exists_is_kept(classifier: Classifier, rows_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="exists already"):
        build(classifier(), rows_file, tmp_path, STEPS)


def test_a_file_that_is_no_model_is_refused(rows_file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x00\x01 nothing")
    with pytest.raises(BundleError, match="is no ONNX model"):
        build(tmp_path / "bad.onnx", rows_file, tmp_path / "out", [])


def test_an_operator_that_nobody_knows_is_told(rows_file: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    spec = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"])],
        "odd",
        [spec("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [spec("y", onnx.TensorProto.FLOAT, ["n", 4])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "odd.onnx"
    )
    with pytest.raises(BundleError, match="cannot be opened.*Frobnicate") as caught:
        build(tmp_path / "odd.onnx", rows_file, tmp_path / "out", [])
    assert str(caught.value).startswith(f"{tmp_path / 'odd.onnx'} cannot be opened")
    assert "edgeward-build" not in str(caught.value)  # the copy that was taken in is nobody's business


def test_a_state_is_an_input_and_an_output_like_others(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def spec(name: str, first: int | str) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [first, 4])

    nodes = [helper.make_node("Add", ["x", "state"], ["next"]), helper.make_node("Relu", ["next"], ["y"])]
    for first, name in (("n", "good"), (2, "bad")):
        graph = helper.make_graph(nodes, "state", [spec("x", 1 if first == 2 else "n"), spec("state", first)],
                                  [spec("y", first), spec("next", first)])  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / f"{name}.onnx")
    rows = np.random.default_rng(0).normal(size=(2, 40, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows[0], state=rows[1])
    report = build(tmp_path / "good.onnx", tmp_path / "rows.npz", tmp_path / "out", [])
    manifest = report.bundle.manifest
    assert manifest is not None
    assert [t.name for t in (*manifest.inputs, *manifest.outputs)] == ["x", "state", "y", "next"]
    assert manifest.task is Task.GENERIC
    reasons = {left.name: left.reason for left in manifest.left_out}
    assert "no fp32 weights" in reasons["fp16.onnx"]
    # ONNX Runtime's int8 recipe clips `next` where it becomes `y`: measured, not trusted.
    assert "agree with the reference's in" in reasons["int8.onnx"]
    with pytest.raises(BundleError, match="no batch in common.*carry a state"):
        build(tmp_path / "bad.onnx", tmp_path / "rows.npz", tmp_path / "out2", [])


def test_a_source_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match=r"nosuch\.onnx cannot be read: there is no such file; check the path"):
        build_bundle(tmp_path / "nosuch.onnx", tmp_path / "out", tmp_path / "rows.npz", read_request(None, {}))

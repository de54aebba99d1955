"""ONNX sources: weights beside the model are taken in, what reaches outside its folder is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.building.onnx_recipes import take_in, write_fp16, write_int8
from runtime.errors import BundleError

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
Classifier = Callable[..., Path]


@pytest.fixture
def external(classifier: Classifier, tmp_path: Path) -> Path:
    """The classifier with its weights in `weights.bin` beside it."""
    model = onnx.load(str(classifier()))
    path = tmp_path / "model" / "external.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def relocated(path: Path, location: str) -> Path:
    """`path` with its weights said to lie in `location`."""
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_external_weights_are_taken_in(external: Path, classifier: Classifier, tmp_path: Path) -> None:
    assert take_in(str(external), str(tmp_path / "taken.onnx")) == "fp32"
    (external.parent / "weights.bin").unlink()
    rows = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)
    taken, original = (
        ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"image": rows})[0]
        for file in (tmp_path / "taken.onnx", classifier())
    )
    np.testing.assert_array_equal(taken, original)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "link.bin", "hard.bin", "absent.bin", "", "."])
def test_weights_anywhere_else_are_refused(external: Path, tmp_path: Path, location: str) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(1024))
    (external.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    (external.parent / "hard.bin").hardlink_to(tmp_path / "outside.bin")
    with pytest.raises(BundleError, match="expected a file beside the model|hard link"):
        take_in(str(relocated(external, location)), str(tmp_path / "taken.onnx"))


def test_sizes_are_checked_before_anything_is_loaded(external: Path, tmp_path: Path) -> None:
    with (external.parent / "weights.bin").open("r+b") as file:
        file.truncate(3 << 30)  # sparse
    model = onnx.load(str(external), load_external_data=False)
    for tensor in model.graph.initializer:
        kept = [entry for entry in tensor.external_data if entry.key == "location"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
    external.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="a variant has at most"):
        take_in(str(external), str(tmp_path / "taken.onnx"))


def test_precision_is_told(classifier: Classifier, tmp_path: Path) -> None:
    source, taken = classifier(), str(tmp_path / "taken.onnx")
    rows = [{"image": np.full((1, 3, 4, 4), n, np.float32)} for n in range(0, 255, 50)]
    write_fp16(source, tmp_path / "fp16.onnx")
    write_int8(source, tmp_path / "int8.onnx", rows, reduce_range=False)
    assert [take_in(str(f), taken) for f in (source, tmp_path / "fp16.onnx", tmp_path / "int8.onnx")] == [
        "fp32",
        "fp16",
        "int8",
    ]


def test_weights_of_seven_bits_stay_within_64(classifier: Classifier, tmp_path: Path) -> None:
    rows = [{"image": np.full((1, 3, 4, 4), n, np.float32)} for n in range(0, 255, 50)]
    for reduce_range, most in ((True, 64), (False, 127)):
        write_int8(classifier(), tmp_path / "int8.onnx", rows, reduce_range=reduce_range)
        model = onnx.load(str(tmp_path / "int8.onnx"))
        weights = [
            onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8
        ]
        assert max(int(np.abs(w.astype(int)).max()) for w in weights if w.ndim == 4) == most

"""A model file alone, or Triton's folder of versions, is a bundle of one variant."""

from pathlib import Path

import pytest

from runtime.bundle.bare import read_bare_file, read_model_folder
from runtime.bundle.manifest import Format
from runtime.errors import BundleError, WrongUseError


@pytest.mark.parametrize(
    ("suffix", "format_"), [("onnx", Format.ONNX), ("tflite", Format.TFLITE), ("pt2", Format.TORCH)]
)
def test_a_file_is_a_bundle_named_by_its_stem(tmp_path: Path, suffix: str, format_: Format) -> None:
    path = tmp_path / f"mnist.{suffix}"
    path.write_bytes(b"weights")
    bundle = read_bare_file(path)
    assert (bundle.name, bundle.version, bundle.manifest) == ("mnist", 1, None)
    assert [v.format for v in bundle.variants] == [format_]
    assert bundle.path_of(bundle.variants[0]) == path
    assert (bundle.samples(), bundle.profile(), bundle.class_names()) == (None, None, None)
    bundle.verify()
    path.write_bytes(b"Weights")
    with pytest.raises(BundleError, match="sha256"):
        bundle.verify()


def test_a_file_name_that_is_no_variant_name_is_served_too(tmp_path: Path) -> None:
    path = tmp_path / "my model (1).onnx"
    path.write_bytes(b"x")
    assert read_bare_file(path).variants[0].name == "model.onnx"


@pytest.mark.parametrize("name", ["model.pb", "model", "model.onnx.gz"])
def test_another_suffix_is_an_error_that_names_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongUseError, match=r"expected one of \.onnx, \.tflite, \.pt2"):
        read_bare_file(tmp_path / name)


def test_a_missing_and_an_empty_file_are_errors_of_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        read_bare_file(tmp_path / "gone.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(BundleError, match="is empty"):
        read_bare_file(tmp_path / "empty.onnx")


def _version(root: Path, version: str, *files: str) -> None:
    (root / version).mkdir(parents=True)
    for name in files:
        (root / version / name).write_bytes(version.encode())


def test_versions_come_lowest_first_by_number(tmp_path: Path) -> None:
    root = tmp_path / "resnet"
    for version in ("10", "9", "1"):
        _version(root, version, "model.onnx", "notes.txt")
    for other in ("0", "01", "draft", "²"):
        _version(root, other, "model.onnx")
    _version(root, "11", "other.onnx")
    assert [(b.name, b.version) for b in read_model_folder(root)] == [("resnet", 1), ("resnet", 9), ("resnet", 10)]


def test_two_models_in_a_version_are_an_error(tmp_path: Path) -> None:
    _version(tmp_path, "1", "model.onnx", "model.tflite")
    with pytest.raises(BundleError, match=r"model\.onnx, model\.tflite; expected one model file a version"):
        read_model_folder(tmp_path)


def test_a_folder_of_neither_kind_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"neither a bundle \(no manifest\.json\) nor a folder NAME/VERSION/model"):
        read_model_folder(tmp_path)


def test_a_pickled_model_is_told_how_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        WrongUseError, match=r"suffix is '\.pt'; expected one of \.onnx.*; write it with torch\.export\.save"
    ):
        read_bare_file(tmp_path / "net.pt")

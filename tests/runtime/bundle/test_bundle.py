"""A bundle on disk holds what its manifest says to the last byte, or an error names the file."""

import hashlib
import io
import os
import pickle
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import samples as samples_module
from runtime.bundle.bundle import MANIFEST_FILE, Bundle, read_bundle, sha256_of
from runtime.bundle.manifest import File, Tensor
from runtime.bundle.samples import samples_from_npz
from runtime.bundle.writing import BundleDraft, write_bundle
from runtime.errors import BundleError

FILES = ("variants/fp32.onnx", "variants/fp32.tflite", "samples.npz", "profile.json", "labels.txt")


def test_a_whole_bundle_verifies_and_reads_back(tiny: Bundle, draft: BundleDraft) -> None:
    tiny.verify()
    assert (tiny.name, tiny.version) == ("tiny", 3)
    assert tuple(part.file for part in tiny.files()) == FILES
    assert tiny.path_of(tiny.variants[0]).read_bytes() == draft.variants[0].content
    assert tiny.profile() == draft.profile
    assert tiny.class_names() == ["cat", "dog", "naïve\u2028cow"]
    read, wrote = tiny.samples(), draft.samples
    assert read is not None
    assert wrote is not None
    assert wrote.labels is not None
    assert len(read) == 20
    np.testing.assert_array_equal(read.inputs["x"], wrote.inputs["x"])
    np.testing.assert_array_equal(read.outputs["p"], wrote.outputs["p"])
    np.testing.assert_array_equal(read.labels, wrote.labels)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found(tiny: Bundle, name: str) -> None:
    path = tiny.root / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"file '{name}' of bundle 'tiny' has sha256 .* copy the bundle again"):
        tiny.verify()


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(tiny: Bundle, name: str) -> None:
    path = tiny.root / name
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(BundleError, match=f"'{name}'.* has {size - 1} bytes, its manifest says {size}"):
        tiny.verify()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(tiny: Bundle, name: str) -> None:
    (tiny.root / name).unlink()
    with pytest.raises(BundleError, match=f"'{name}'.* is missing"):
        tiny.verify()


def test_a_flipped_byte_in_the_manifest_changes_the_bundles_digest(tiny: Bundle) -> None:
    path = tiny.root / MANIFEST_FILE
    path.write_bytes(path.read_bytes().replace(b'"version": 3', b'"version": 4'))
    assert read_bundle(tiny.root).digest != tiny.digest


def test_reading_a_part_checks_it(tiny: Bundle) -> None:
    for name in ("samples.npz", "profile.json", "labels.txt"):
        (tiny.root / name).write_bytes(b"x")
    for read in (tiny.samples, tiny.profile, tiny.class_names):
        with pytest.raises(BundleError, match="has 1 bytes"):
            read()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
class TestLinks:
    def test_a_file_that_is_a_link_out_is_refused_though_its_bytes_are_right(
        self, tiny: Bundle, tmp_path: Path
    ) -> None:
        path = tiny.root / "variants/fp32.onnx"
        path.rename(tmp_path / "outside.onnx")
        path.symlink_to(tmp_path / "outside.onnx")
        with pytest.raises(BundleError, match="a link that leaves"):
            tiny.verify()
        with pytest.raises(BundleError, match="a link that leaves"):
            tiny.path_of(tiny.variants[0])

    def test_a_folder_that_is_a_link_out_is_refused(self, tiny: Bundle, tmp_path: Path) -> None:
        (tiny.root / "variants").rename(tmp_path / "outside")
        (tiny.root / "variants").symlink_to(tmp_path / "outside")
        with pytest.raises(BundleError, match="a link that leaves"):
            tiny.verify()

    def test_a_link_inside_is_followed(self, tiny: Bundle) -> None:
        path = tiny.root / "variants/fp32.onnx"
        path.rename(tiny.root / "kept.onnx")
        path.symlink_to("../kept.onnx")
        tiny.verify()

    def test_a_loop_of_links_is_an_error_of_the_bundle(self, tiny: Bundle) -> None:
        path = tiny.root / "variants/fp32.onnx"
        path.unlink()
        path.symlink_to("fp32.onnx")
        with pytest.raises(BundleError, match=r"fp32\.onnx"):
            tiny.verify()

    def test_a_bundle_reached_through_a_link_is_fine(self, tiny: Bundle, tmp_path: Path) -> None:
        (tmp_path / "current").symlink_to(tiny.root)
        read_bundle(tmp_path / "current").verify()

    def test_a_pipe_is_not_waited_on(self, tiny: Bundle) -> None:
        path = tiny.root / "labels.txt"
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(BundleError, match="no regular file"):
            tiny.check_file(File(file="labels.txt", sha256="0" * 64, size_bytes=0))


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: manifest\.json cannot be read \(No such file"):
        read_bundle(tmp_path)


def test_a_manifest_that_is_a_folder_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).mkdir()
    with pytest.raises(BundleError, match="is no bundle"):
        read_bundle(tmp_path)


def _with_file(bundle: Bundle, part: str, content: bytes) -> Bundle:
    """The bundle with other content in one of its files, digest and all."""
    assert bundle.manifest is not None
    old: File = getattr(bundle.manifest, part)
    path = bundle.root / old.file
    path.write_bytes(content)
    new = File(file=old.file, sha256=sha256_of(path), size_bytes=len(content))
    return replace(bundle, manifest=bundle.manifest.model_copy(update={part: new}))


def _npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{key.replace("__", ":"): value for key, value in arrays.items()})
    return buffer.getvalue()


X = np.zeros((2, 4), np.float32)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was run",))


def test_a_pickled_npz_is_refused_and_not_run(tiny: Bundle) -> None:
    trap = np.empty(2, object)
    trap[:] = _Trap()
    for content in (pickle.dumps(_Trap()), _npz(input__x=X, labels=trap)):
        with pytest.raises(BundleError, match="cannot be read as npz without pickles"):
            _with_file(tiny, "samples", content).samples()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_npz(input__y=X), r"hold \['input:y'\]; expected an array 'input:x'"),
        (_npz(input__x=X.astype(np.float64)), r"'input:x' as float64 \[2, 4\]; the manifest says FP32 \[batch, 4\]"),
        (_npz(input__x=X[:, :3]), r"'input:x' as float32 \[2, 3\]"),
        (_npz(input__x=np.float32(1)), r"'input:x' as float32 \[\]"),
        (_npz(input__x=X, labels=np.zeros(3)), r"have \{'input:x': 2, 'labels': 3\} rows"),
        (_npz(input__x=X, labels=np.int64(1)), r"have .* rows"),
        (_npz(input__x=X[:0]), "at least one"),
        (_npz(), "expected an array"),
        (b"garbage", "cannot be read as npz"),
        (b"", "cannot be read as npz"),
        (_npz(input__x=X)[:-30], "cannot be read as npz"),
    ],
)
def test_samples_that_do_not_fit_say_why(tiny: Bundle, content: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        _with_file(tiny, "samples", content).samples()


def test_an_array_that_claims_more_than_it_has_is_an_error(tiny: Bundle) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 60, 4)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("input:x.npy", head.getvalue() + b"1234")
    with pytest.raises(BundleError, match="cannot be read as npz"):
        _with_file(tiny, "samples", buffer.getvalue()).samples()


def test_samples_that_unpack_to_too_much_are_refused_unread(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "MAX_SAMPLES_BYTES", 100)
    with pytest.raises(BundleError, match="unpack to .* at most 100"):
        tiny.samples()


def test_bytes_come_back_as_bytes_and_bf16_as_bf16(tmp_path: Path) -> None:
    from ml_dtypes import bfloat16

    text = Tensor(name="t", datatype="BYTES", shape=(-1, 2))
    half = Tensor(name="h", datatype="BF16", shape=(-1,))
    words = np.array([[b"a", "ü".encode()], [b"", b"long \x00 one"]], object)
    halves = np.array([1.5, -2.0], bfloat16)
    path = tmp_path / "samples.npz"
    path.write_bytes(samples_module.samples_to_npz(samples_module.Samples({"t": words, "h": halves}, {}, None)))
    read = samples_from_npz(path, (text, half), ())
    assert read.inputs["t"].dtype == np.object_
    assert read.inputs["t"].tolist() == words.tolist()
    assert read.inputs["h"].dtype == bfloat16
    np.testing.assert_array_equal(read.inputs["h"], halves)


def test_bytes_that_npz_would_shorten_are_refused() -> None:
    cut = samples_module.Samples({"t": np.array([b"ends in zero\x00"], object)}, {}, None)
    with pytest.raises(BundleError, match="'input:t' hold bytes that end in zeros"):
        samples_module.samples_to_npz(cut)


def test_parts_that_are_not_what_they_should_be_are_errors(tiny: Bundle) -> None:
    with pytest.raises(BundleError, match="not a reference profile of schema 1"):
        _with_file(tiny, "profile", b'{"schema_version": 2}').profile()
    with pytest.raises(BundleError, match="not UTF-8"):
        _with_file(tiny, "labels", b"\xff\n").class_names()


def test_a_bundle_may_carry_no_samples_profile_or_labels(draft: BundleDraft, tmp_path: Path) -> None:
    plain = write_bundle(tmp_path / "plain", BundleDraft(draft.model, draft.variants))
    assert (plain.samples(), plain.profile(), plain.class_names()) == (None, None, None)


def test_a_file_that_has_settled_is_hashed_once_and_again_when_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    first = sha256_of(file)
    assert first == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"two")  # at once, and of the same size: times may not show it
    assert sha256_of(file) == hashlib.sha256(b"two").hexdigest()
    long_ago = time.time() - 3600
    os.utime(file, (long_ago, long_ago))
    file.write_bytes(b"six")
    os.utime(file, (long_ago, long_ago))  # the change is hidden from all but the inode's own time
    assert sha256_of(file) == hashlib.sha256(b"six").hexdigest()
    with pytest.raises(BundleError, match="cannot be read"):
        sha256_of(tmp_path / "absent")

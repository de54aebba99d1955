"""What is written reads back, whole or not at all, and the same values give the same bytes."""

import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bare import read_bare_file
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, VariantDescription
from runtime.bundle.samples import Samples
from runtime.bundle.writing import BundleDraft, VariantDraft, pack, write_bundle
from runtime.errors import BundleError


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_values_give_the_same_bytes(
    draft: BundleDraft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_bundle(tmp_path / "a", draft)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    second = write_bundle(tmp_path / "b", draft)
    assert _bytes(first.root) == _bytes(second.root)
    assert first.digest == second.digest
    assert pack(first, tmp_path / "a.tar").read_bytes() == pack(second, tmp_path / "b.tar").read_bytes()


def test_the_manifest_says_no_more_than_was_said(tiny: Bundle) -> None:
    text = (tiny.root / "manifest.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema_version": 1,')
    assert "null" not in text
    assert "provenance" not in text


def test_a_variants_content_may_be_a_file(draft: BundleDraft, tmp_path: Path) -> None:
    source = tmp_path / "whatever.bin"
    source.write_bytes(b"weights")
    from_file = replace(draft, variants=(replace(draft.variants[0], content=source),))
    bundle = write_bundle(tmp_path / "out", from_file)
    assert bundle.path_of(bundle.variants[0]).read_bytes() == b"weights"


def test_a_name_without_its_suffix_gets_one(draft: BundleDraft, tmp_path: Path) -> None:
    plain = VariantDraft(VariantDescription(name="int8", format=Format.TFLITE, precision="int8"), b"x")
    bundle = write_bundle(tmp_path / "out", replace(draft, variants=(plain,)))
    assert (bundle.variants[0].name, bundle.variants[0].file) == ("int8", "variants/int8.tflite")
    twice = replace(
        draft,
        variants=(plain, replace(plain, description=plain.description.model_copy(update={"name": "int8.tflite"}))),
    )
    with pytest.raises(BundleError, match=r"two variants would both lie in 'variants/int8\.tflite'"):
        write_bundle(tmp_path / "twice", twice)


def test_an_existing_folder_is_kept_unless_asked(tiny: Bundle, draft: BundleDraft) -> None:
    newer = replace(draft, model=draft.model.model_copy(update={"version": 4}))
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(tiny.root, newer)
    tiny.verify()
    (tiny.root / "stale.txt").touch()
    assert write_bundle(tiny.root, newer, replace=True).version == 4
    assert not (tiny.root / "stale.txt").exists()


def test_what_cannot_be_written_leaves_the_old_one_and_no_scraps(tiny: Bundle, draft: BundleDraft) -> None:
    before = _bytes(tiny.root.parent)
    rows = Samples({"x": np.zeros((2, 4), np.float32)}, {"p": np.zeros((3, 3), np.float32)}, None)
    lost = replace(draft.variants[0], content=tiny.root / "nowhere")
    for broken in (
        replace(draft, samples=rows),
        replace(draft, variants=(lost,)),
        replace(draft, class_names=("a\nb",)),
    ):
        with pytest.raises((BundleError, OSError)):
            write_bundle(tiny.root, broken, replace=True)
    assert _bytes(tiny.root.parent) == before


def test_others_may_read_what_was_written(tiny: Bundle) -> None:
    """The scratch folder is private; what comes out of it has the rights of any new folder."""
    plain = tiny.root.parent / "plain"
    plain.mkdir()
    assert stat.S_IMODE(tiny.root.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_tar_holds_the_bundles_files_and_nothing_else(tiny: Bundle, tmp_path: Path) -> None:
    (tiny.root / "notes.txt").write_text("private")
    with tarfile.open(pack(tiny, tmp_path / "out" / "tiny.tar")) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [
        "tiny/labels.txt",
        "tiny/manifest.json",
        "tiny/profile.json",
        "tiny/samples.npz",
        "tiny/variants/fp32.onnx",
        "tiny/variants/fp32.tflite",
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_a_broken_bundle_is_not_packed_and_the_old_archive_stays(tiny: Bundle, tmp_path: Path) -> None:
    archive = pack(tiny, tmp_path / "tiny.tar")
    before = archive.read_bytes()
    (tiny.root / "samples.npz").unlink()
    with pytest.raises(BundleError, match="missing"):
        pack(tiny, archive)
    assert archive.read_bytes() == before


def test_a_bare_file_is_not_packed(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is a bare model file"):
        pack(read_bare_file(tiny.root / "variants/fp32.onnx"), tmp_path / "x.tar")

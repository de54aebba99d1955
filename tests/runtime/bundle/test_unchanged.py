"""A file that was read before is read again as soon as anything about it changed, however well that is hidden."""

import os
import time
from pathlib import Path

import pytest

from runtime.backends.base import RunOptions
from runtime.backends.opened import open_variant
from runtime.bundle import unchanged
from runtime.bundle.bundle import MANIFEST_FILE, Bundle, read_bundle, remembered_bundle
from runtime.bundle.unchanged import SETTLED_AFTER_NS, signature_at, signature_of
from runtime.errors import BundleError
from tests.runtime.selection.fakes import FakeBackend


def _told(mtime_ns: int, ctime_ns: int, size: int = 5) -> os.stat_result:
    return os.stat_result((0o100644, 7, 1, 1, 0, 0, size, 0, 0, 0), {"st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns})


def _change(file: Path, content: bytes) -> None:
    """Other bytes with the time of change set back, as whoever tampers would; the system's own time has moved on."""
    before = file.stat()
    file.write_bytes(content)
    for _ in range(1_000_000):
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        if file.stat().st_ctime_ns != before.st_ctime_ns:
            return
    raise AssertionError("the file system keeps no time of change of its own")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files settle as soon as they are written: what a process does that has run for a while."""
    monkeypatch.setattr(unchanged, "SETTLED_AFTER_NS", -1)


def test_a_file_has_no_signature_until_both_its_times_have_settled() -> None:
    old, new = time.time_ns() - SETTLED_AFTER_NS - 1, time.time_ns()
    assert signature_of(_told(old, old)) is not None
    assert signature_of(_told(new, old)) is None
    assert signature_of(_told(old, new)) is None


def test_a_signature_changes_with_size_and_with_either_time() -> None:
    same = signature_of(_told(10, 20))
    assert same == signature_of(_told(10, 20))
    others = [_told(11, 20), _told(10, 21), _told(10, 20, size=6)]
    assert same not in [signature_of(told) for told in others]


def test_what_is_not_there_has_no_signature(tmp_path: Path) -> None:
    assert signature_at(tmp_path / "absent") is None


@pytest.mark.usefixtures("at_once")
def test_a_manifest_is_read_once_and_again_when_it_changed(tiny: Bundle) -> None:
    first = read_bundle(tiny.root)
    assert read_bundle(tiny.root) is first
    manifest = tiny.root / MANIFEST_FILE
    _change(manifest, manifest.read_bytes().replace(b'"tiny"', b'"tinY"'))
    assert read_bundle(tiny.root).name == "tinY"
    _change(manifest, b"{")
    with pytest.raises(BundleError, match="not a manifest"):
        read_bundle(tiny.root)


@pytest.mark.usefixtures("at_once")
def test_a_model_file_that_was_tampered_with_is_found_at_the_next_load(tiny: Bundle) -> None:
    variant = tiny.variants[0]
    backend = FakeBackend(formats=frozenset({variant.format}))
    assert tiny.check_file(variant) == tiny.check_file(variant)
    file = tiny.path_of(variant)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    _change(file, bytes(content))
    with pytest.raises(BundleError, match="has sha256 .* it was changed"):
        open_variant(tiny, variant, backend, RunOptions())


@pytest.mark.usefixtures("at_once")
def test_a_link_that_leaves_the_bundle_is_found_although_the_file_was_seen_before(tiny: Bundle, tmp_path: Path) -> None:
    variant = tiny.variants[0]
    file = tiny.check_file(variant)
    outside = tmp_path / "outside"
    outside.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(outside)
    with pytest.raises(BundleError, match="is a link that leaves"):
        tiny.check_file(variant)


@pytest.mark.usefixtures("at_once")
def test_one_look_finds_a_bundle_by_its_folder_and_by_no_name_of_a_file(tiny: Bundle) -> None:
    known = remembered_bundle(str(tiny.root))
    assert known is not None
    assert known.digest == tiny.digest
    assert remembered_bundle(tiny.root / MANIFEST_FILE) is None
    assert remembered_bundle("no\0file") is None

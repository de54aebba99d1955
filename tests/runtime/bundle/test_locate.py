"""From a path, an archive or a name to bundles; an archive never writes outside its own folder nor fills the disk."""

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from runtime.bundle import locate
from runtime.bundle.bundle import Bundle, sha256_of
from runtime.bundle.locate import open_bundles, shipped_bundles
from runtime.bundle.writing import pack
from runtime.errors import BundleError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home" / "cache"


def _tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isfile() else None)
    return path


def _member(name: str, size: int = 1, **kind: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for key, value in kind.items():
        setattr(member, key, value)
    return member


def test_a_folder_a_file_and_a_folder_of_versions(tiny: Bundle, tmp_path: Path, cache: Path) -> None:
    assert open_bundles(tiny.root, cache) == [tiny]
    assert open_bundles(str(tiny.root), cache) == [tiny]
    assert [b.name for b in open_bundles(tiny.root / "variants/fp32.onnx", cache)] == ["fp32"]
    for version in (1, 2):
        (tmp_path / "net" / str(version)).mkdir(parents=True)
        (tmp_path / "net" / str(version) / "model.onnx").write_bytes(b"x")
    assert [(b.name, b.version) for b in open_bundles(tmp_path / "net", cache)] == [("net", 1), ("net", 2)]
    assert not cache.exists()


def test_a_shipped_bundle_by_name(cache: Path) -> None:
    (bundle,) = open_bundles("digits", cache)
    assert bundle.root == shipped_bundles()["digits"]


@pytest.mark.parametrize("name", ["digit", "models/none.onnx", "", "\0"])
def test_an_unknown_name_lists_what_ships(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"digits|neither a bundle"):
        open_bundles(name, cache)


def test_an_archive_is_unpacked_once(tiny: Bundle, tmp_path: Path, cache: Path) -> None:
    archive = pack(tiny, tmp_path / "tiny.tar")
    (first,) = open_bundles(archive, cache)
    first.verify()
    assert first.digest == tiny.digest
    assert first.root.is_relative_to(cache)
    stamp = first.root.stat().st_mtime_ns
    (second,) = open_bundles(archive, cache)
    assert (second.root, second.root.stat().st_mtime_ns) == (first.root, stamp)
    assert [p.name for p in cache.iterdir()] == [first.root.parent.name]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_archive_with_the_manifest_at_its_top(
    tiny: Bundle, tmp_path: Path, cache: Path, compression: str
) -> None:
    archive = tmp_path / f"tiny.tar.{compression}"
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(tiny.root, arcname=".")
    (bundle,) = open_bundles(archive, cache)
    bundle.verify()


@pytest.mark.parametrize(
    "member",
    [
        _member("../escaped"),
        _member("tiny/../../escaped"),
        _member("link", 0, type=tarfile.SYMTYPE, linkname="../../escaped"),
        _member("link", 0, type=tarfile.LNKTYPE, linkname="../../escaped"),
        _member("link", 0, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        _member("device", 0, type=tarfile.CHRTYPE),
        _member("pipe", 0, type=tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name}{'->' * bool(member.linkname)}{member.linkname}",
)
def test_an_archive_that_reaches_outside_is_refused_and_leaves_nothing(
    member: tarfile.TarInfo, tmp_path: Path, cache: Path
) -> None:
    archive = _tar(tmp_path / "bad.tar", [_member("manifest.json"), member])
    with pytest.raises(BundleError, match=r"bad\.tar"):
        open_bundles(archive, cache)
    assert list(cache.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


def test_an_absolute_member_lands_inside(tiny: Bundle, tmp_path: Path, cache: Path) -> None:
    archive = tmp_path / "absolute.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(tiny.root.rglob("*")):
            if path.is_file():
                member = tar.gettarinfo(path)
                member.name = f"/tiny/{path.relative_to(tiny.root)}"
                tar.addfile(member, io.BytesIO(path.read_bytes()))
    (bundle,) = open_bundles(archive, cache)
    bundle.verify()
    assert bundle.root.is_relative_to(cache)


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, cache: Path) -> None:
    archive = _tar(tmp_path / "many.tar", [_member(f"f{i}", 0) for i in range(locate.MAX_ARCHIVE_MEMBERS + 1)])
    with pytest.raises(BundleError, match=f"at least 1001 files .* at most {locate.MAX_ARCHIVE_MEMBERS}"):
        open_bundles(archive, cache)
    assert list(cache.iterdir()) == []


def test_an_archive_of_too_many_bytes_is_refused_by_its_headers(tmp_path: Path, cache: Path) -> None:
    """The bytes it claims are not even there: what is refused was not read first."""
    header = _member("bomb", locate.MAX_ARCHIVE_BYTES + 1).tobuf(tarfile.GNU_FORMAT)
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(gzip.compress(header + b"\0" * 512))
    with pytest.raises(BundleError, match=f"at most .* {locate.MAX_ARCHIVE_BYTES} bytes"):
        open_bundles(archive, cache)
    assert list(cache.iterdir()) == []


def test_many_members_under_the_cap_each_are_summed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "MAX_ARCHIVE_BYTES", 1000)
    archive = _tar(tmp_path / "sum.tar", [_member(f"f{i}", 400) for i in range(3)])
    with pytest.raises(BundleError, match="at least 3 files and 1200 bytes"):
        open_bundles(archive, cache)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b garbage", b"PK\x03\x04 a zip"])
def test_a_file_that_is_no_archive_says_what_is_expected(content: bytes, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.bin is neither a model file \(\.onnx, .*\) nor a whole tar"):
        open_bundles(path, cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_truncated_archive_leaves_nothing_behind(
    tiny: Bundle, tmp_path: Path, cache: Path, compression: str, share: float
) -> None:
    archive = tmp_path / "cut.tar"
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(tiny.root, arcname="tiny")
        big = _member("tiny/padding", 50_000)
        tar.addfile(big, io.BytesIO(os.urandom(big.size)))
    os.truncate(archive, int(archive.stat().st_size * share))
    with pytest.raises(BundleError, match=r"cut\.tar"):
        open_bundles(archive, cache)
    assert list(cache.iterdir()) == []


def test_a_flipped_byte_in_a_compressed_archive_is_an_error_of_the_bundle(
    tiny: Bundle, tmp_path: Path, cache: Path
) -> None:
    content = bytearray(gzip.compress(pack(tiny, tmp_path / "tiny.tar").read_bytes()))
    content[len(content) // 2] ^= 0xFF
    archive = tmp_path / "flipped.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(BundleError):
        open_bundles(archive, cache)[0].verify()


def test_an_archive_without_a_manifest_says_so(tmp_path: Path, cache: Path) -> None:
    for name, members in (("empty.tar", []), ("other.tar", [_member("readme")])):
        with pytest.raises(BundleError, match=rf"{name} holds no manifest\.json"):
            open_bundles(_tar(tmp_path / name, members), cache)


def test_two_who_unpack_the_same_archive_at_once_both_get_it(
    tiny: Bundle, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tiny, tmp_path / "tiny.tar")
    extract = locate._extract

    def overtaken(source: Path, target: Path) -> None:
        extract(source, target)
        shutil.copytree(target, cache / sha256_of(source))  # the other one is done first

    monkeypatch.setattr(locate, "_extract", overtaken)
    open_bundles(archive, cache)[0].verify()

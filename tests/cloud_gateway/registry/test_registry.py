"""The registry keeps what it took, refuses what would change it, and finds what was changed; in a folder and by fsspec."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_gateway.registry import Registry, open_registry
from runtime.bundle.bundle import Bundle
from runtime.bundle.writing import pack
from runtime.errors import (
    BundleError,
    ConflictError,
    InvalidInputError,
    ModelNotFoundError,
    StorageError,
    WrongUseError,
)
from tests.cloud_gateway.bundles import make_bundle


@pytest.fixture(params=["folder", "fsspec"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    if request.param == "fsspec":
        pytest.importorskip("fsspec", reason="fsspec is not installed")
        return open_registry(f"memory://{uuid.uuid4()}/models", tmp_path / "cache")
    return open_registry(str(tmp_path / "registry"), tmp_path / "cache")


@pytest.fixture
def first(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "first", 1)


def test_what_went_in_comes_out(registry: Registry, first: Bundle, tmp_path: Path) -> None:
    assert registry.models() == []
    assert registry.versions("small") == []
    pushed = registry.push(pack(first, tmp_path / "first.tar"))
    assert (pushed.model, pushed.version, pushed.digest) == ("small", 1, first.digest)
    assert pushed.targets.p95_latency_ms == 5
    found = registry.bundle("small", 1)
    assert found.digest == first.digest
    assert found.path_of(found.variants[0]).read_bytes() == first.path_of(first.variants[0]).read_bytes()
    registry.push(make_bundle(tmp_path / "second", 2).root)
    assert [version.version for version in registry.versions("small")] == [1, 2]
    assert registry.models() == ["small"]


def test_a_version_never_changes(registry: Registry, first: Bundle, tmp_path: Path) -> None:
    before = registry.push(first.root)
    assert registry.push(pack(first, tmp_path / "again.tar")) == before
    other = make_bundle(tmp_path / "other", 1, is_other=True)
    with pytest.raises(ConflictError, match="versions never change: give it another version number"):
        registry.push(other.root)
    assert registry.bundle("small", 1).digest == first.digest


def test_of_two_pushes_at_once_one_is_refused(tmp_path: Path) -> None:
    registry = open_registry(str(tmp_path / "registry"), tmp_path / "cache")
    bundles = [make_bundle(tmp_path / f"b{at}", 1, description=str(at)) for at in range(6)]

    def push(bundle: Bundle) -> str | None:
        try:
            return registry.push(bundle.root).digest
        except ConflictError:
            return None

    with ThreadPoolExecutor(6) as pool:
        taken = [digest for digest in pool.map(push, bundles) if digest is not None]
    assert len(taken) == 1
    assert registry.bundle("small", 1).digest == taken[0]


def test_a_push_that_was_cut_off_does_not_block_the_next(tmp_path: Path, first: Bundle) -> None:
    registry = open_registry(str(tmp_path / "registry"), tmp_path / "cache")
    registry.push(make_bundle(tmp_path / "other", 1, is_other=True).root)
    (tmp_path / "registry" / "small" / "1" / "record.json").unlink()  # as if it had been killed before the record
    with pytest.raises(ModelNotFoundError):
        registry.bundle("small", 1)
    assert registry.push(first.root).digest == first.digest
    assert registry.bundle("small", 1).digest == first.digest


def test_what_was_changed_behind_its_back_is_not_served(tmp_path: Path, first: Bundle) -> None:
    registry = open_registry(str(tmp_path / "registry"), tmp_path / "cache")
    registry.push(first.root)
    archive = next((tmp_path / "registry" / "small" / "1").glob("*.tar"))
    archive.chmod(0o644)
    content = bytearray(archive.read_bytes())
    content[-2000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(StorageError, match="it was changed"):
        registry.bundle("small", 1)
    (archive.parent / "record.json").chmod(0o644)
    (archive.parent / "record.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        registry.versions("small")


def test_what_is_no_bundle_is_refused(registry: Registry, first: Bundle, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(first.path_of(first.variants[0]).read_bytes())
    with pytest.raises(InvalidInputError, match="edgeward bundle build"):
        registry.push(bare)
    rubbish = tmp_path / "rubbish.tar"
    rubbish.write_bytes(b"no tar at all")
    with pytest.raises(BundleError):
        registry.push(rubbish)
    file = first.path_of(first.variants[0])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match="bytes, its manifest says"):
        registry.push(first.root)
    assert registry.models() == []


@pytest.mark.parametrize("name", ["../small", "a/b", "..", ""])
def test_names_are_no_paths(registry: Registry, name: str) -> None:
    with pytest.raises(InvalidInputError):
        registry.find(name, 1)
    with pytest.raises(InvalidInputError):
        registry.versions(name)


def test_a_version_that_is_not_there(registry: Registry, first: Bundle) -> None:
    registry.push(first.root)
    with pytest.raises(ModelNotFoundError, match="versions there: 1; push it with"):
        registry.bundle("small", 2)


def test_a_place_that_nobody_can_reach(tmp_path: Path, first: Bundle) -> None:
    with pytest.raises(WrongUseError, match="cannot be used"):
        open_registry("nosuchscheme://somewhere", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="disk space and rights"):
        open_registry(str(tmp_path / "file"), tmp_path / "cache").push(first.root)

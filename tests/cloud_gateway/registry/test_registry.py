"""The registry keeps what it took, refuses what would change it, and finds what was changed; in a folder and by fsspec."""

import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.registry import Registry, open_registry
from cloud_gateway.registry.remote_shelf import CLAIM_S, ClaimedError, FsspecShelf
from cloud_gateway.registry.shelf import FolderShelf
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


@pytest.fixture(params=["folder", "memory", "file", "ftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder, or a URL; the last is of a server that knows nothing of us."""
    if request.param == "folder":
        yield str(tmp_path / "registry")
        return
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    if request.param == "memory":
        yield f"memory://{uuid.uuid4()}/models"
    elif request.param == "file":
        yield (tmp_path / "registry").as_uri()
    else:
        with ftp_server(tmp_path / "ftp") as url:
            yield f"{url}/models"


@pytest.fixture
def registry(place: str, tmp_path: Path) -> Registry:
    return open_registry(place, tmp_path / "cache")


@contextmanager
def ftp_server(folder: Path) -> Iterator[str]:
    """An FTP server on a free loopback port, its files in `folder`."""
    pytest.importorskip("pyftpdlib", reason="pyftpdlib is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # asyncore, which from Python 3.12 on is a package of its own
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.servers import ThreadedFTPServer

    folder.mkdir()
    authorizer = DummyAuthorizer()
    authorizer.add_user("edgeward", "secret", str(folder), perm="elradfmwMT")

    class Handler(FTPHandler):  # type: ignore[misc]
        pass

    Handler.authorizer = authorizer
    server = ThreadedFTPServer(("127.0.0.1", 0), Handler)
    is_closing = threading.Event()

    def serve() -> None:
        try:
            server.serve_forever(timeout=0.05, handle_exit=False)
        except OSError:  # it waits on what `close_all` has closed meanwhile
            if not is_closing.is_set():
                raise

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"ftp://edgeward:secret@127.0.0.1:{server.address[1]}"
    finally:
        is_closing.set()
        server.close_all()
        thread.join(30)


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


def test_of_pushes_at_once_one_at_most_is_taken_and_stays(place: str, tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / f"b{at}", 1, description=str(at)) for at in range(6)]
    registries = [open_registry(place, tmp_path / f"cache{at}") for at in range(6)]
    ready = threading.Barrier(6)

    def push(at: int) -> str | None:
        ready.wait(30)
        try:
            return registries[at].push(bundles[at].root).digest
        except ConflictError:
            return None

    with ThreadPoolExecutor(6) as pool:
        taken = [digest for digest in pool.map(push, range(6)) if digest is not None]
    assert len(taken) <= 1
    if "://" not in place:
        assert taken, "a folder can tell who was first"
    if not taken:  # each saw another's claim, and gave way: nobody's is there, and the next one is taken
        taken = [registries[0].push(bundles[0].root).digest]
    for registry in registries:
        assert registry.bundle("small", 1).digest == taken[0]
        with pytest.raises(ConflictError, match="never change"):
            registry.push(next(bundle for bundle in bundles if bundle.digest != taken[0]).root)


def test_who_comes_between_a_claim_and_its_file_gives_way(tmp_path: Path) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory", reason="fsspec is not installed")
    url = f"memory://{uuid.uuid4()}"
    now = [1000.0]
    shelf, other = (FsspecShelf(url, lambda: now[0]) for _ in range(2))
    files = []
    for name in ("first", "second"):
        files.append(tmp_path / name)
        files[-1].write_text(name)
    at_place = shelf._at_place

    def interrupted(work: Any) -> Any:
        class Between:
            def __init__(self, files: Any) -> None:
                self._files = files

            def __getattr__(self, name: str) -> Any:
                return getattr(self._files, name)

            def mv(self, source: str, target: str) -> None:
                with pytest.raises(ConflictError, match="by another push at this moment; try again"):
                    other.put("m/1/record.json", files[1])
                self._files.mv(source, target)

        return at_place(lambda place, root: work(Between(place), root))

    shelf._at_place = interrupted  # type: ignore[method-assign]
    shelf.put("m/1/record.json", files[0])
    shelf._at_place = at_place  # type: ignore[method-assign]
    assert shelf.read("m/1/record.json", 99) == b"first"
    with pytest.raises(ConflictError, match="is there already"):
        other.put("m/1/record.json", files[1])
    assert other.names("m") == ["1"]

    def cut_off(*_: object) -> None:
        raise OSError("the connection is gone")

    monkey = pytest.MonkeyPatch()
    monkey.setattr(memory.MemoryFileSystem, "mv", cut_off)
    monkey.setattr(memory.MemoryFileSystem, "rm_file", cut_off)
    with pytest.raises(StorageError, match="the connection is gone"):
        shelf.put("m/2/record.json", files[0])
    monkey.undo()
    with pytest.raises(ConflictError, match="try again"):
        other.put("m/2/record.json", files[1])
    now[0] += CLAIM_S
    other.put("m/2/record.json", files[1])
    assert shelf.read("m/2/record.json", 99) == b"second"


@pytest.mark.parametrize("step", ["put_file", "mv"])
def test_a_push_whose_link_broke_is_made_good_by_the_next(
    tmp_path: Path, first: Bundle, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory", reason="fsspec is not installed")
    registry = open_registry(f"memory://{uuid.uuid4()}", tmp_path / "cache")
    real = getattr(memory.MemoryFileSystem, step)

    def broken(files: Any, source: str, target: str) -> None:
        if step == "put_file":
            real(files, source, target)  # what a transfer that broke off leaves
        raise OSError("the connection is gone")

    with monkeypatch.context() as patched:
        patched.setattr(memory.MemoryFileSystem, step, broken)
        with pytest.raises(StorageError, match="the connection is gone"):
            registry.push(first.root)
    assert registry.push(first.root).digest == first.digest
    assert registry.bundle("small", 1).digest == first.digest


def test_a_push_that_meets_anothers_claim_is_not_acknowledged(tmp_path: Path, first: Bundle) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory", reason="fsspec is not installed")
    place = f"/{uuid.uuid4()}"
    registry = open_registry(f"memory:/{place}", tmp_path / "cache")
    claim = f"{place}/small/1/{first.digest}.tar.claim-{time.time():.0f}-1"
    memory.MemoryFileSystem().pipe_file(claim, b"half")
    with pytest.raises(ClaimedError, match="by another push at this moment; try again"):
        registry.push(first.root)
    assert registry.versions("small") == []
    memory.MemoryFileSystem().rm_file(claim)
    assert registry.push(first.root).digest == first.digest
    assert registry.bundle("small", 1).digest == first.digest


def test_bytes_that_are_gone_come_back_when_the_bundle_is_pushed_again(tmp_path: Path, first: Bundle) -> None:
    registry = open_registry(str(tmp_path / "registry"), tmp_path / "cache")
    before = registry.push(first.root)
    next((tmp_path / "registry" / "small" / "1").glob("*.tar")).unlink()
    assert registry.push(first.root) == before
    assert registry.bundle("small", 1).digest == first.digest


def test_what_a_place_took_and_does_not_have_is_not_recorded(tmp_path: Path, first: Bundle) -> None:
    class Forgetful(FolderShelf):
        def put(self, name: str, content: Path) -> None:
            if name.endswith(".json"):
                super().put(name, content)

    registry = Registry(Forgetful(tmp_path / "registry"), tmp_path / "cache")
    with pytest.raises(StorageError, match="nothing was recorded: push it again"):
        registry.push(first.root)
    assert registry.versions("small") == []


def test_what_another_gateway_pushed_is_seen_at_once(place: str, tmp_path: Path, first: Bundle) -> None:
    mine, theirs = (open_registry(place, tmp_path / name) for name in ("mine", "theirs"))
    assert mine.versions("small") == []
    theirs.push(first.root)
    assert [one.version for one in mine.versions("small")] == [1]
    theirs.push(make_bundle(tmp_path / "second", 2).root)
    assert [one.version for one in mine.versions("small")] == [1, 2]


def test_a_server_that_is_away_is_said_and_found_again(tmp_path: Path, first: Bundle) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    with ftp_server(tmp_path / "ftp") as url:
        registry = open_registry(f"{url}/models", tmp_path / "cache")
        registry.push(first.root)
    with pytest.raises(StorageError, match="failed") as said:
        registry.versions("small")
    assert "secret" not in str(said.value)


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

"""What archives leave unpacked: kept while it is used, by any process, and gone a month after."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.bundle import unpacked
from runtime.bundle.bundle import Bundle
from runtime.bundle.locate import open_bundles
from runtime.bundle.unpacked import UNUSED_S, prune, remove, use
from runtime.bundle.writing import pack

ROOT = Path(__file__).resolve().parents[3]
OLD = time.time() - UNUSED_S - 60

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind: nothing is removed")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(unpacked, "_held", {})
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder


def old(cache: Path, name: str) -> Path:
    folder = cache / name
    (folder / "variants").mkdir(parents=True)
    (folder / "variants" / "fp32.onnx").write_bytes(b"x")
    os.utime(folder, (OLD, OLD))
    return folder


@contextmanager
def another_process_uses(folder: Path) -> Iterator[None]:
    code = (
        "import sys, pathlib; from runtime.bundle.unpacked import use; use(pathlib.Path(sys.argv[1])); "
        "print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        os.utime(folder, (OLD, OLD))  # as after a month of serving
        yield
        child.communicate(b"\n")


def test_only_what_nobody_used_for_a_month_goes(cache: Path) -> None:
    forgotten, young = old(cache, "a"), old(cache, "b")
    os.utime(young)
    assert prune(cache) == [forgotten]
    assert [one.name for one in cache.iterdir()] == ["b"]


def test_what_a_process_serves_stays_however_old_until_it_ends(cache: Path) -> None:
    served = old(cache, "a")
    with another_process_uses(served):
        assert prune(cache) == []
        assert (served / "variants" / "fp32.onnx").exists()
    assert prune(cache) == [served]


def test_use_marks_it_as_used(cache: Path) -> None:
    folder = old(cache, "a")
    use(folder)
    assert folder.stat().st_mtime > OLD + UNUSED_S
    use(cache / "nothing")
    assert not (cache / "nothing").exists()


def test_a_new_archive_takes_forgotten_ones_away_and_an_archive_that_was_comes_again(
    tiny: Bundle, cache: Path, tmp_path: Path
) -> None:
    archive = pack(tiny, tmp_path / "tiny.tar")
    forgotten = old(cache, "a")
    (bundle,) = open_bundles(archive, cache)
    bundle.verify()
    assert not forgotten.exists()
    (kept,) = cache.iterdir()
    for held in unpacked._held.values():  # as if its process had ended a month ago
        os.close(held)
    unpacked._held.clear()
    os.utime(kept, (OLD, OLD))
    assert prune(cache) == [kept]
    (again,) = open_bundles(archive, cache)
    again.verify()


def test_what_went_and_came_again_is_held_anew(cache: Path) -> None:
    use(old(cache, "a"))
    shutil.rmtree(cache / "a")
    served = old(cache, "a")
    use(served)
    os.utime(served, (OLD, OLD))
    assert prune(cache) == []
    assert served.exists()


def test_what_this_process_uses_no_more_goes_at_once_unless_another_does(cache: Path) -> None:
    folder = old(cache, "a")
    use(folder)
    with another_process_uses(folder):
        assert not remove(folder)
        assert (folder / "variants" / "fp32.onnx").exists()
    use(folder)
    assert remove(folder)
    assert list(cache.iterdir()) == []
    assert not remove(folder)


def test_archives_that_a_registry_fetched_go_too(cache: Path) -> None:
    names = [f"{'a' * 64}.tar", f".{'b' * 64}.tar.0123abcd", f"{'c' * 64}.tar", "mine.tar"]
    for name in names:
        (cache / name).write_bytes(b"x")
        if "c" * 64 not in name:
            os.utime(cache / name, (OLD, OLD))
    assert sorted(prune(cache)) == sorted(cache / name for name in names[:2])
    assert sorted(path.name for path in cache.iterdir()) == sorted(names[2:])

"""What is kept of `.tflite` files that were opened before."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.backends import litert_files
from runtime.backends.base import RunOptions
from runtime.backends.litert import LiteRTBackend
from runtime.backends.litert_files import known_file
from runtime.bundle.locate import shipped_bundles
from runtime.bundle.unchanged import SETTLED_AFTER_NS

MODELS = shipped_bundles()["digits"] / "variants"


@pytest.fixture
def settled(tmp_path: Path) -> Path:
    """A model's file that was written long enough ago to be known again."""
    return written(tmp_path / "model.tflite", "fp32.tflite")


def written(file: Path, model: str) -> Path:
    file.write_bytes((MODELS / model).read_bytes())
    return file


def opened(file: Path) -> dict[str, str]:
    session = LiteRTBackend().open(file, RunOptions())
    try:
        return {spec.name: spec.datatype for spec in session.inputs}
    finally:
        session.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled as soon as they are written, so that no test waits for it."""
    assert SETTLED_AFTER_NS > 0
    monkeypatch.setattr("runtime.bundle.unchanged.SETTLED_AFTER_NS", -1)


def test_a_small_file_is_read_once_while_it_stays_the_same(settled: Path) -> None:
    first = known_file(str(settled))
    assert first.content == settled.read_bytes()
    assert first.tensors is None
    opened(settled)
    assert known_file(str(settled)) is first
    assert first.tensors is not None


def test_another_model_in_its_place_is_opened_and_not_what_was_kept(settled: Path) -> None:
    before = known_file(str(settled))
    assert opened(settled)
    other = written(settled.with_name("other"), "int8.tflite")
    other.replace(settled)
    assert known_file(str(settled)) is not before
    assert known_file(str(settled)).content == (MODELS / "int8.tflite").read_bytes()
    assert opened(settled)


def test_a_large_file_is_mapped(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_files, "MAX_KEPT_BYTES", settled.stat().st_size - 1)
    litert_files._known.cache_clear()
    assert known_file(str(settled)).content is None
    assert opened(settled)


def test_a_file_that_may_still_change_is_not_kept(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.bundle.unchanged.SETTLED_AFTER_NS", SETTLED_AFTER_NS)
    assert known_file(str(settled)).content is None
    assert known_file(str(settled)) is not known_file(str(settled))
    assert opened(settled)

"""Backends of other packages: a good one is listed, a bad one is listed as unavailable, and nothing falls over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends import registry
from runtime.backends.base import RunOptions
from runtime.backends.foreign import GuardedBackend
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError
from runtime.hardware import Hardware, probe
from runtime.tensors import Array, TensorSpec


class Theirs:
    name = "theirs-npu"
    device = "npu"
    formats = frozenset({Format.ONNX})

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        return None

    def variations(self, hardware: Hardware) -> tuple[dict[str, str], ...]:
        return ({}, {"a": "b"})

    def version(self) -> str:
        return "1.0"

    def open(self, file: Path, options: RunOptions) -> Any:
        raise BundleError("theirs says no")


class Misbehaving(Theirs):
    name = "misbehaving"

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        raise RuntimeError("reason\nbroke")

    def variations(self, hardware: Hardware) -> tuple[dict[str, str], ...]:
        raise RuntimeError("variations broke")

    def version(self) -> str:
        raise RuntimeError("version broke")

    def open(self, file: Path, options: RunOptions) -> Any:
        raise RuntimeError("open broke")


class Impostor(Theirs):
    name = "onnxruntime-cpu"


def raises() -> Any:
    raise RuntimeError("cannot be made")


def no_backend() -> Any:
    return object()


MADE = {"good": Theirs, "bad": Misbehaving, "impostor": Impostor, "raises": raises, "none": no_backend}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All backends by name, with the entry points above and one of a module that does not exist."""

    class Point(EntryPoint):
        def load(self) -> Any:
            return MADE[self.name] if self.name in MADE else super().load()

    points = [Point(name, f"there:{name}", registry.ENTRY_POINT_GROUP) for name in MADE]
    points.append(Point("gone", "no_such_module:Backend", registry.ENTRY_POINT_GROUP))
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    return {backend.name: backend for backend in registry.all_backends()}


def test_a_good_one_is_listed_after_ours(listed: dict[str, Any]) -> None:
    ours = [backend.name for backend in registry.our_backends()]
    assert list(listed)[: len(ours)] == ours
    theirs = listed["theirs-npu"]
    assert theirs.unavailable_reason(probe()) is None
    assert theirs.variations(probe()) == ({}, {"a": "b"})
    assert theirs.version() == "1.0"
    with pytest.raises(BundleError, match="theirs says no"):
        theirs.open(Path("m"), RunOptions())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone", "no_such_module"),
        ("raises", "RuntimeError: cannot be made"),
        ("none", "gave no backend: object.name"),
        ("impostor", "'onnxruntime-cpu', which is taken"),
        ("misbehaving", "RuntimeError: reason broke"),
    ],
)
def test_a_bad_one_is_unavailable_with_its_reason(listed: dict[str, Any], name: str, says: str) -> None:
    reason = listed[name].unavailable_reason(probe())
    assert says in reason
    assert "\n" not in reason
    with pytest.raises(BackendUnavailableError):
        listed[name].open(Path("m"), RunOptions())
    assert listed[name].version()
    assert listed[name].variations(probe()) == ({},)


def test_ours_stay_when_an_impostor_comes(listed: dict[str, Any]) -> None:
    assert listed["onnxruntime-cpu"].unavailable_reason(probe()) is None


def test_a_bad_one_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    point = EntryPoint("gone", "no_such_module:Backend", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with caplog.at_level(logging.WARNING):
        registry.all_backends()
    assert "no_such_module" in caplog.text


class TheirSession:
    inputs = (TensorSpec("x", "FP32", (-1, 2)),)
    outputs = (TensorSpec("y", "FP32", (-1, 2)),)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if len(inputs["x"]) == 1:
            raise ZeroDivisionError("their bug")
        if len(inputs["x"]) == 2:
            raise BackendUnavailableError("their device is gone")
        return {} if len(inputs["x"]) == 3 else {"y": inputs["x"]}

    def close(self) -> None:
        raise RuntimeError("close broke")


def test_what_their_sessions_raise_becomes_ours(caplog: pytest.LogCaptureFixture) -> None:
    class WithSession(Theirs):
        def open(self, file: Path, options: RunOptions) -> Any:
            return TheirSession()

    session = GuardedBackend(WithSession()).open(Path("m"), RunOptions())
    assert session.inputs == TheirSession.inputs
    with pytest.raises(
        ExecutionError, match=r"'theirs-npu' failed on 'x' float32 \[1, 2\]: ZeroDivisionError: their bug"
    ):
        session.run({"x": np.zeros((1, 2), np.float32)})
    with pytest.raises(BackendUnavailableError, match="their device is gone"):
        session.run({"x": np.zeros((2, 2), np.float32)})
    with pytest.raises(ExecutionError, match=r"gave the outputs \[\], but it declared 'y' too"):
        session.run({"x": np.zeros((3, 2), np.float32)})
    assert session.run({"x": np.ones((4, 2), np.float32)})["y"].shape == (4, 2)
    session.close()
    assert "failed to close a session" in caplog.text


def test_a_session_that_is_none_costs_that_candidate_only() -> None:
    class WithNothing(Theirs):
        def open(self, file: Path, options: RunOptions) -> Any:
            return object()

    with pytest.raises(BackendUnavailableError, match="'theirs-npu' failed to open m: AttributeError"):
        GuardedBackend(WithNothing()).open(Path("m"), RunOptions())

"""A backend that another package adds by an entry point, kept from taking the program down.

A name that cannot be imported, a thing that is no backend, an exception where a sentence was asked for: each becomes a
backend that is unavailable, with the reason, and one line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.backends.base import Backend, Overlap, RunOptions, Session
from runtime.backends.failures import one_line, show_tensors
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, EdgewardError, ExecutionError
from runtime.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from runtime.hardware import Hardware

log = logging.getLogger(__name__)


def load_foreign(point: EntryPoint, taken: frozenset[str]) -> Backend:
    """The backend that `point` names, guarded; where it cannot be had or its name is `taken`, one that says why not."""
    where = f"entry point {point.name!r} ({point.value})"
    try:
        theirs = point.load()()
    except Exception as error:
        return _broken(point, f"{where} failed: {type(error).__name__}: {one_line(error)}")
    problem = _misfit(theirs)
    if problem is not None:
        return _broken(point, f"{where} gave no backend: {problem}")
    if theirs.name in taken:
        return _broken(point, f"{where} calls itself {theirs.name!r}, which is taken; rename it")
    return GuardedBackend(theirs)


class BrokenBackend:
    """Stands for a backend that could not be had; opens nothing."""

    device = "unknown"
    formats = frozenset(Format)
    """All of them, so that whoever asks about any format is told."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """Always the reason."""
        return self.reason

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """Nothing to try."""
        return ({},)

    def version(self) -> str:
        """There is none."""
        return "not installed"

    def open(self, file: Path, options: RunOptions) -> Session:
        """`BackendUnavailableError` with the reason."""
        raise BackendUnavailableError(self.reason)


class GuardedBackend:
    """Another package's backend: what it or its sessions raise that is not ours is wrapped or told here."""

    def __init__(self, theirs: Backend) -> None:
        self.name = theirs.name
        self.device = theirs.device
        self.formats = theirs.formats
        self._theirs = theirs

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """Its answer, or the exception it gave instead."""
        try:
            return self._theirs.unavailable_reason(hardware)
        except Exception as error:
            log.warning("backend %s failed when asked whether it is available", self.name, exc_info=error)
            said = f"{type(error).__name__}: {one_line(error)}"
            return f"backend {self.name!r} failed when asked whether it is available: {said}"

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """Its answer; only the default way after an exception."""
        try:
            return self._theirs.variations(hardware)
        except Exception as error:
            log.warning(
                "backend %s failed when asked for variations; only its default is tried", self.name, exc_info=error
            )
            return ({},)

    def version(self) -> str:
        """Its answer, or "unknown" after an exception."""
        try:
            return self._theirs.version()
        except Exception as error:
            log.warning("backend %s failed when asked for its version", self.name, exc_info=error)
            return "unknown"

    def open(self, file: Path, options: RunOptions) -> Session:
        """Its session, guarded; an exception that is not ours becomes `BackendUnavailableError`."""
        try:
            return GuardedSession(self.name, self._theirs.open(file, options))
        except EdgewardError:
            raise
        except Exception as error:
            raise BackendUnavailableError(
                f"backend {self.name!r} failed to open {file}: {type(error).__name__}: {one_line(error)}"
            ) from error


class GuardedSession:
    """A session of another package's backend. What it raises that is not ours becomes `ExecutionError`."""

    def __init__(self, backend: str, theirs: Session) -> None:
        self.inputs: tuple[TensorSpec, ...] = tuple(theirs.inputs)
        self.outputs: tuple[TensorSpec, ...] = tuple(theirs.outputs)
        # Whatever is said or not: `run` may be called from any thread.
        self.overlap: Overlap = getattr(theirs, "overlap", Overlap.SHARED)
        # What was not seen to hand NaN on is not believed to.
        self.passes_nan: bool = bool(getattr(theirs, "passes_nan", False))
        self._backend = backend
        self._names = tuple(spec.name for spec in self.outputs)
        self._theirs = theirs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs; `ExecutionError` also when one that it declared is not among them."""
        try:
            outputs = self._theirs.run(inputs)
            missing = next((name for name in self._names if name not in outputs), None)
        except EdgewardError:
            raise
        except Exception as error:
            raise ExecutionError(
                f"backend {self._backend!r} failed on {show_tensors(inputs)}: {type(error).__name__}: {one_line(error)}"
            ) from error
        if missing is not None:
            raise ExecutionError(
                f"backend {self._backend!r} gave the outputs {sorted(outputs)}, but it declared {missing!r} too"
            )
        return outputs

    def close(self) -> None:
        """Closes it; a failure is logged, since nobody waits for anything more of it."""
        try:
            self._theirs.close()
        except Exception as error:
            log.warning("backend %s failed to close a session", self._backend, exc_info=error)


def _broken(point: EntryPoint, reason: str) -> BrokenBackend:
    log.warning("%s", reason)
    return BrokenBackend(point.name, reason)


def _misfit(theirs: Any) -> str | None:
    for attribute in ("name", "device"):
        if not isinstance(getattr(theirs, attribute, None), str):
            return f"{type(theirs).__name__}.{attribute} is no string"
    if not isinstance(getattr(theirs, "formats", None), frozenset):
        return f"{type(theirs).__name__}.formats is no frozenset"
    for method in ("unavailable_reason", "variations", "version", "open"):
        if not callable(getattr(theirs, method, None)):
            return f"{type(theirs).__name__} has no method {method!r}"
    return None

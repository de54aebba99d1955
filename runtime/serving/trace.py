"""TraceSetting: every so many requests of a model leave a line with their timestamps in a file.

The settings are Triton's, for the server and for single models over it. Traces go to a file in one folder of this machine and
hold names, ids and times, never tensors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.errors import InvalidInputError, UnsupportedError
from runtime.wire.values import InferenceRequest, InferenceResponse

log = logging.getLogger(__name__)

Infer = Callable[[InferenceRequest], Awaitable[InferenceResponse]]

DEFAULT_FILE = "trace.jsonl"
# Whoever forgets that tracing is on should not fill the disk.
MAX_FILE_BYTES = 64 << 20
# Settings of models that were never loaded could be sent for ever.
MAX_MODELS = 1000

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Tracing:
    """The settings in force for the server or for a model; the defaults are Triton's."""

    is_on: bool = False
    rate: int = 1000
    """Of so many requests one is traced."""
    count: int = -1
    """So many are still to be traced; -1: no end."""
    file: str = DEFAULT_FILE

    def spelled(self) -> dict[str, str | list[str]]:
        """In Triton's names and spelling."""
        return {
            "trace_level": ["TIMESTAMPS" if self.is_on else "OFF"],
            "trace_rate": str(self.rate),
            "trace_count": str(self.count),
            "log_frequency": "0",
            "trace_file": self.file,
            "trace_mode": "triton",
        }


class TraceSettings:
    """The settings, and the counting and writing that follows from them. Used on one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: dict[str, Any] = {}
        self._models: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._traces = 0
        self.is_on = False
        """Whether any request may leave a line."""
        self._has_failed = False

    def values(self, model: str = "") -> dict[str, str | list[str]]:
        """What holds for `model`, or for the server."""
        return self._of(model).spelled()

    def update(self, changes: Mapping[str, Sequence[str] | None], model: str = "") -> None:
        """Changes settings of `model`, or of the server; None goes back to the server's, or to the default.

        `InvalidInputError` or `UnsupportedError` names what cannot be, and nothing changes.
        """
        scope = dict(self._models.get(model, {}) if model else self._server)
        for name, value in changes.items():
            key, checked = _checked(name, value)
            if key is None:
                continue
            if value is None:
                scope.pop(key, None)
            else:
                scope[key] = checked
        if not model:
            self._server = scope
        elif scope:
            if model not in self._models and len(self._models) >= MAX_MODELS:
                raise InvalidInputError(f"{MAX_MODELS} models have trace settings of their own; clear some first")
            self._models[model] = scope
        else:
            self._models.pop(model, None)
        if changes:
            self._seen.clear()
            self._left.clear()
            self._has_failed = False
        self.is_on = any(self._of(name).is_on for name in ("", *self._models))

    def around(self, infer: Infer) -> Infer:
        """`infer`, traced as the settings say; costs next to nothing while tracing is off."""

        def traced(request: InferenceRequest) -> Awaitable[InferenceResponse]:
            return self._traced(infer, request) if self.is_on and self._is_chosen(request.model) else infer(request)

        return traced

    def _of(self, model: str) -> Tracing:
        return replace(Tracing(), **{**self._server, **self._models.get(model, {})})

    def _is_chosen(self, model: str) -> bool:
        setting = self._of(model)
        if not setting.is_on or (model not in self._seen and len(self._seen) >= MAX_MODELS):
            return False
        seen = self._seen[model] = self._seen.get(model, 0) + 1
        if seen % setting.rate:
            return False
        left = self._left.get(model, setting.count)
        if left == 0:
            return False
        self._left[model] = max(left - 1, -1)
        return True

    async def _traced(self, infer: Infer, request: InferenceRequest) -> InferenceResponse:
        started = time.time_ns()
        version = request.version
        try:
            response = await infer(request)
            version = response.version
            return response
        finally:
            self._write(request, version, started, time.time_ns())

    def _write(self, request: InferenceRequest, version: str, started_ns: int, ended_ns: int) -> None:
        self._traces += 1
        line = {
            "id": self._traces,
            "model_name": request.model,
            "model_version": version,
            "request_id": request.id,
            "timestamps": [{"name": "REQUEST_START", "ns": started_ns}, {"name": "REQUEST_END", "ns": ended_ns}],
        }
        try:
            self._append(self._folder / self._of(request.model).file, json.dumps(line).encode() + b"\n")
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning("traces cannot be written to %s: %s", self._folder, error)

    def _append(self, file: Path, line: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if os.fstat(fd).st_size + len(line) > MAX_FILE_BYTES:
                raise OSError(
                    f"{file.name} is full at {MAX_FILE_BYTES} bytes; name another trace_file, or move it away"
                )
            os.write(fd, line)
        finally:
            os.close(fd)


def _checked(name: str, value: Sequence[str] | None) -> tuple[str | None, object]:
    """The field of `Tracing` that a setting stands for, and its value; no field for what is as it is."""
    words = list(value or ())
    if name == "trace_level":
        for word in words:
            if word == "TENSORS":
                raise UnsupportedError(
                    "trace_level TENSORS is not supported: tensors are not written to disk; use TIMESTAMPS"
                )
            if word not in ("OFF", "TIMESTAMPS"):
                raise InvalidInputError(f"trace_level {word!r:.80} is unknown; expected OFF or TIMESTAMPS")
        return "is_on", "TIMESTAMPS" in words
    if name == "trace_file":
        file = _one(name, words, DEFAULT_FILE)
        if not _FILE.fullmatch(file):
            raise InvalidInputError(
                f"trace_file {file!r:.80} is no plain file name; traces stay in the folder 'traces' of EDGEWARD_HOME"
            )
        return "file", file
    if name == "trace_rate":
        return "rate", _number(name, words, 1)
    if name == "trace_count":
        return "count", _number(name, words, -1)
    if name in _AS_IT_IS:
        if words and words != [_AS_IT_IS[name]]:
            raise UnsupportedError(
                f"trace setting {name!r} is {words!r:.80}; this server has {_AS_IT_IS[name]!r} and no other"
            )
        return None, None
    known = ", ".join(Tracing().spelled())
    raise InvalidInputError(f"unknown trace setting {name!r:.80}; known: {known}")


_AS_IT_IS = {"log_frequency": "0", "trace_mode": "triton"}


def _number(name: str, words: list[str], least: int) -> int:
    word = _one(name, words, str(least))
    if not re.fullmatch(r"-?[0-9]{1,15}", word) or int(word) < least:
        raise InvalidInputError(f"{name} is {word!r:.80}; expected a whole number, {least} or more")
    return int(word)


def _one(name: str, words: list[str], otherwise: str) -> str:
    if len(words) > 1:
        raise InvalidInputError(f"{name} has {len(words)} values; expected one")
    return words[0] if words else otherwise

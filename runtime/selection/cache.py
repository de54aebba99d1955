"""Choices kept between runs: one JSON file per bundle and question, believed only while machine and libraries are the same.

A file that cannot be read, or tells of another machine or library, is measured anew and said so; never an exception.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.backends.base import Backend
from runtime.bundle.bundle import Bundle
from runtime.bundle.same import Same
from runtime.bundle.unchanged import Signature, signature_at
from runtime.hardware.stamp import read_stamp
from runtime.selection.choice import Choice, ChoiceRecord
from runtime.selection.goal import Goal
from runtime.selection.installed import installed_digest, installed_stamp
from runtime.selection.settings import SelectionSettings

log = logging.getLogger(__name__)

SCHEMA: Final = 6
MAX_BYTES: Final = 4 << 20
"""The choice for digits, 14 candidates and 34 pairs that cannot run, takes 14 KB."""

GLANCE_HOLDS_S: Final = 1.0
"""A glance takes a fifth of what a small session takes to open, and a program loads its models one after the other. A device that
vanishes within this time is missed when it is opened; a package that comes does not change what this process has imported."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a kept choice rests on."""

    bundle: str
    """The bundle's name, for the file's."""
    question: str
    """Digest of the bundle and of what was asked for: the same question has one file."""
    fingerprint: str
    installed: str
    """Digest of the packages that are installed: only when it changed are the backends asked for their versions."""
    backends: tuple[Backend, ...]
    """Every backend that reads one of the variants, available or not."""
    seen: str | None = None
    """What shows at a glance of machine and packages (`glance`): while it is the same, nobody need look closer."""

    def versions(self) -> dict[str, str]:
        """Of every backend, by its name."""
        return {backend.name: backend.version() for backend in self.backends}


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    # `schema` is a name pydantic keeps for itself.
    schema_version: Literal[6]
    question: str
    fingerprint: str
    installed: str
    seen: str | None
    versions: dict[str, str]
    choice: ChoiceRecord


@dataclass(frozen=True, slots=True)
class Kept:
    """What the cache has: a choice, or (perhaps) a reason for people why it has none that holds."""

    choice: Choice | None
    warning: str | None = None


def glance(clock: Callable[[], float] = time.monotonic) -> str | None:
    """A word that stays the same while neither machine nor packages changed; None where only a close look can tell.

    It may be `GLANCE_HOLDS_S` old.
    """
    return _glance(int(clock() / GLANCE_HOLDS_S))


@lru_cache(maxsize=1)
def _glance(turn: int) -> str | None:
    stamp = read_stamp()
    return None if stamp is None else f"{stamp} {installed_stamp()}"


def question_for(bundle: Bundle, goal: Goal, settings: SelectionSettings) -> str:
    """Digest of the bundle and of what is asked for."""
    asked = {
        "schema": SCHEMA,
        "bundle": (bundle.name, bundle.version, bundle.digest),
        "objective": goal.objective,
        "floor": goal.accuracy_floor,
        "agreement": goal.agreement_floor,
        "cap": goal.memory_cap_mb,
        "p95": goal.targets.p95_latency_ms,
        "rows_per_s": goal.targets.throughput_rows_per_s,
        "backends": sorted(settings.backends),
        "variants": sorted(settings.variants),
        "threads": settings.threads,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def key_for(
    bundle: Bundle,
    fingerprint: str,
    backends: Sequence[Backend],
    goal: Goal,
    settings: SelectionSettings,
    seen: str | None = None,
) -> Key:
    """The key of the choice for `bundle` by `goal` with the filters of `settings`.

    It asks no backend whether it is available, which may import an engine: what was installed or removed shows in its
    version, a device that came or went in the fingerprint.
    """
    formats = {variant.format for variant in bundle.variants}
    readers = tuple(backend for backend in backends if formats & backend.formats)
    question = question_for(bundle, goal, settings)
    return Key(bundle.name, question, fingerprint, installed_digest(), readers, seen)


def read(folder: Path, key: Key, bundle: Bundle, backends: Sequence[Backend]) -> Kept:
    """The choice kept for `key`; none, with the reason, when there is one that does not hold any more."""
    file = _file(folder, key.bundle, key.question)
    try:
        entry = _read_entry(file)
        if entry is None:
            return Kept(None)
        changes = _changes(entry, key)
        if changes:
            return _lost(f"the calibration of {key.bundle!r} is out of date: {'; '.join(changes)}")
        choice = _choice_of(entry, bundle, backends)
    except _UnreadableError as error:
        return _lost(f"calibration {file} {error}")
    if entry.installed != key.installed or key.seen not in (None, entry.seen):
        # What changed does not matter to the choice: noted, so that the next time is quick again.
        _keep(file, entry.model_copy(update={"installed": key.installed, "seen": key.seen}))
    return Kept(choice)


def recall(folder: Path, bundle: Bundle, question: str, seen: str, backends: Sequence[Backend]) -> Choice | None:
    """What `read` gives while all is as it was at the last close look; otherwise None and not a word: `read` tells the reason.

    `backends` may lack some: None where the choice names one of those.
    """
    file = path_of(folder, bundle.name, question)
    signature = signature_at(file)
    these = Same(bundle, *backends)
    try:
        kept = _recalled(file, these) if signature is None else _remembered(file, these, signature)
    except _UnreadableError:
        return None
    return kept.choice if kept is not None and kept.question == question and kept.seen == seen else None


@lru_cache(maxsize=64)
def _remembered(file: str, these: Same, signature: Signature) -> _Recalled | None:
    """A file of many candidates takes as long to read as a small session to open; one that is unchanged is not read again."""
    return _recalled(file, these)


def _recalled(file: str, these: Same) -> _Recalled | None:
    text = _read_text(Path(file))
    return None if text is None else _understood(text, file, these)


@lru_cache(maxsize=8)
def _understood(text: bytes, file: str, these: Same) -> _Recalled:
    """For the first seconds after a calibration, in which a file is read again at every load: to understand it takes longer."""
    entry = _entry_of(text)
    bundle, *backends = these.objects
    return _Recalled(entry.question, entry.seen, _choice_of(entry, bundle, backends))  # type: ignore[arg-type]


class _Recalled(NamedTuple):
    """Of an entry."""

    question: str
    seen: str | None
    choice: Choice


def write(folder: Path, key: Key, choice: Choice) -> str | None:
    """Keeps `choice`, whole or not at all; a sentence for people when it cannot be kept."""
    entry = _Entry(
        schema_version=SCHEMA,
        question=key.question,
        fingerprint=key.fingerprint,
        installed=key.installed,
        seen=key.seen,
        versions=key.versions(),
        choice=choice.to_record(),
    )
    return _keep(_file(folder, key.bundle, key.question), entry)


def _keep(target: Path, entry: _Entry) -> str | None:
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside its place and renamed: a file that is there is whole, also with two processes at work.
        handle, scratch = tempfile.mkstemp(prefix=".writing-", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(entry.model_dump_json(indent=1))
            Path(scratch).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(scratch).unlink()
            raise
    except OSError as error:
        text = f"the choice could not be kept in {folder} ({error.strerror}); it will be measured again next time"
        log.warning(text)
        return text
    return None


class _UnreadableError(Exception):
    """A file that is there is no entry; the text says why, after the file's name."""


def _read_entry(file: Path) -> _Entry | None:
    """What the file says; None without one."""
    text = _read_text(file)
    return None if text is None else _entry_of(text)


def _read_text(file: Path) -> bytes | None:
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _UnreadableError(f"cannot be read ({error.strerror})") from error
    if len(text) > MAX_BYTES:
        raise _UnreadableError(f"is corrupt (more than {MAX_BYTES} bytes)")
    return text


def _entry_of(text: bytes) -> _Entry:
    try:
        return _Entry.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise _UnreadableError(f"is corrupt ({where + ': ' if where else ''}{problem['msg']})") from error


def _choice_of(entry: _Entry, bundle: Bundle, backends: Sequence[Backend]) -> Choice:
    try:
        return entry.choice.to_choice(bundle, backends)
    except (LookupError, ValueError) as error:
        raise _UnreadableError(f"is corrupt (it names {error})") from error


def path_of(folder: Path, bundle: str, question: str) -> str:
    """The file that the choice for a bundle of this name is kept in. As text: to join paths takes as long as to look at one."""
    return f"{folder}/{bundle}-{question[:16]}.json"


def _file(folder: Path, bundle: str, question: str) -> Path:
    return Path(path_of(folder, bundle, question))


def _lost(reason: str) -> Kept:
    text = f"{reason}; measured anew"
    log.warning(text)
    return Kept(None, text)


def _changes(entry: _Entry, key: Key) -> list[str]:
    changes = []
    if entry.question != key.question:
        changes.append("it answers another question")
    if entry.fingerprint != key.fingerprint:
        changes.append("the machine changed")
    if entry.installed == key.installed:
        return changes
    versions = key.versions()
    for name in sorted(entry.versions.keys() | versions.keys()):
        before, now = entry.versions.get(name), versions.get(name)
        if before is None:
            changes.append(f"{name} was added")
        elif now is None:
            changes.append(f"{name} is gone")
        elif before != now:
            changes.append(f"{name} went from {before} to {now}")
    return changes

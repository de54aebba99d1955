"""Candidates that take the whole gateway down with them: how often that happened, in a file that outlives the process.

A release is marked before its candidate is loaded and answers, and unmarked when the gateway ends as told. A gateway that starts
and finds the mark counts a crash; after the second in a row it does not load that candidate again.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from runtime.row_files.writer import sync_folder

log = logging.getLogger(__name__)

# One may be a power failure or a kill by hand.
MAX_CRASHES: Final = 2
# A gateway that has run a release for so long without one counts the next as the first again.
STEADY_S: Final = 600.0
# Of releases that ended while this gateway was down, marks stay behind.
MOST_TRIALS: Final = 64


@dataclass(frozen=True, slots=True)
class Trial:
    """One release as this gateway ran it."""

    crashes: int = 0
    """In a row."""
    is_running: bool = False
    """While it does; what a gateway that starts finds so has ended without a word."""

    @property
    def has_failed(self) -> bool:
        """Whether its candidate is not to be loaded here again."""
        return self.crashes >= MAX_CRASHES


def begun(before: Trial | None) -> Trial:
    """A gateway has started and is about to run the release."""
    before = before or Trial()
    crashes = before.crashes + (1 if before.is_running else 0)
    return Trial(crashes, is_running=crashes < MAX_CRASHES)


class Trials:
    """The marks of one gateway, by release. Blocking; threads may share it. A disk that takes none is said and stops no release."""

    def __init__(self, file: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._monotonic = monotonic
        self._trials = _read(file)
        self._began: dict[int, float] = {}
        """Releases that this process runs, and since when."""
        self._is_closed = False
        self._lock = threading.Lock()

    def begin(self, release: int) -> Trial:
        """Marks a release, once a process, before its candidate is loaded or answers."""
        with self._lock:
            if release not in self._began and not self._is_closed:
                self._began[release] = self._monotonic()
                self._put(release, begun(self._trials.get(release)))
            return self._trials.get(release, Trial())

    def note_steady(self) -> None:
        """Forgives the crashes of what has run for `STEADY_S` since; called now and then."""
        now = self._monotonic()
        with self._lock:
            for release, began in self._began.items():
                trial = self._trials[release]
                if trial.crashes and trial.is_running and now - began >= STEADY_S:
                    self._put(release, replace(trial, crashes=0))

    def end(self, release: int) -> None:
        """The release has ended, or did not begin."""
        with self._lock:
            self._began.pop(release, None)
            if self._trials.pop(release, None) is not None:
                self._write()

    def close(self) -> None:
        """The gateway ends as it was told to; what a thread still begins after that is not marked."""
        with self._lock:
            self._is_closed = True
            self._trials = {release: replace(trial, is_running=False) for release, trial in self._trials.items()}
            if self._began:
                self._write()

    def _put(self, release: int, trial: Trial) -> None:
        self._trials[release] = trial
        for oldest in sorted(self._trials.keys() - self._began.keys())[: max(0, len(self._trials) - MOST_TRIALS)]:
            del self._trials[oldest]
        self._write()

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as stream:
                json.dump({str(release): asdict(trial) for release, trial in self._trials.items()}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(self._file)
            sync_folder(self._file.parent)
        except OSError as error:
            log.error("%s cannot be written, so a candidate that crashes this gateway is not counted: %s", fresh, error)


def _read(file: Path) -> dict[int, Trial]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return {int(release): Trial(int(one["crashes"]), bool(one["is_running"])) for release, one in said.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("%s cannot be read, so crashes are counted from none: %s", file, error)
        return {}

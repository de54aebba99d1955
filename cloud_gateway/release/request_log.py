"""A log of requests, as `edgeward release simulate` reads it: one JSON line each, no inputs, no outputs, keys only as hashes.

A line says of both versions what they did where both were given the request, and null of the one that was not. The file is begun
anew with each start and when it is full; the one before stays beside it, with `.1` behind its name.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from cloud_gateway.guards import Arm
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.split import name_of, place
from runtime.telemetry.exposition import Family, Kind

log = logging.getLogger(__name__)

# Lines that may wait for the disk: half a minute of a busy gateway. More are lost, and counted.
MAX_WAITING: Final = 65_536
WRITE_EVERY_S: Final = 0.2
# Users are told apart, not known: whoever wants to simulate needs no more.
_SALT: Final = b"request-log"
LOST: Final = "edgeward_request_log_lost_total"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the version that had its caller answered it."""

    model: str
    key: str
    """Of its route; empty: it has none."""
    segment: str
    arm: Arm
    is_error: bool
    latency_s: float


class RequestLog:
    """Takes requests on the event loop, writes them on a thread of its own."""

    def __init__(self, file: Path, most_bytes: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`most_bytes`: of the file, and of the one before it."""
        self.lost = 0
        """Requests that are in no line."""
        self._file = file
        self._most_bytes = most_bytes
        self._monotonic = monotonic
        self._began = monotonic()
        self._waiting: deque[tuple[float, Asked, Mirrored | None]] = deque()
        self._closing = threading.Event()
        self._stream: IO[bytes] | None = None
        self._written_bytes = 0
        self._is_broken = False
        self._thread = threading.Thread(target=self._work, name="edgeward-request-log", daemon=True)
        self._thread.start()

    def write(self, asked: Asked, mirrored: Mirrored | None = None) -> None:
        """Keeps a request for the thread; `mirrored`: what became of it on the other version."""
        if len(self._waiting) >= MAX_WAITING:
            self.lost += 1
            return
        self._waiting.append((self._monotonic() - self._began, asked, mirrored))

    def describe(self) -> dict[str, Any]:
        """For the status of the gateway."""
        return {"file": str(self._file), "lost": self.lost}

    async def families(self) -> list[Family]:
        """The same as metrics: a simulation knows nothing of what is in no line."""
        return [Family(LOST, Kind.COUNTER, "Requests that the log of requests has no line of.", [({}, self.lost)])]

    def close(self) -> None:
        """Writes down what waits. Blocking."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._closing.wait(WRITE_EVERY_S)
            lines = []
            with suppress(IndexError):
                while True:
                    lines.append(json.dumps(line_of(*self._waiting.popleft())).encode() + b"\n")
            if lines:
                self._write(lines)
        if self._stream is not None:
            self._stream.close()

    def _write(self, lines: list[bytes]) -> None:
        try:
            for line in lines:
                if self._stream is None or self._written_bytes + len(line) > self._most_bytes:
                    self._begin_file()
                assert self._stream is not None, "a file was begun"
                self._stream.write(line)
                self._written_bytes += len(line)
            if self._stream is not None:
                self._stream.flush()
            self._is_broken = False
        except OSError as error:
            self.lost += len(lines)
            if not self._is_broken:
                log.error(
                    "the log of requests %s cannot be written; requests are answered all the same: %s",
                    self._file,
                    error,
                )
            self._is_broken = True

    def _begin_file(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            self._file.replace(self._file.with_name(self._file.name + ".1"))
        self._stream = self._file.open("wb")
        self._written_bytes = 0


def line_of(at_s: float, asked: Asked, mirrored: Mirrored | None) -> dict[str, Any]:
    """One line; pure."""
    line: dict[str, Any] = {"at_s": round(at_s, 4), "model": asked.model}
    if asked.key:
        line["key"] = name_of(place(_SALT, asked.key))
    if asked.segment:
        line["segment"] = asked.segment
    if mirrored is None:
        own = _outcome(asked.is_error, asked.latency_s)
        is_stable = asked.arm is Arm.STABLE
        return line | {"stable": own if is_stable else None, "candidate": None if is_stable else own}
    # Where the two were not measured alike, both get the caller's: a difference would be one of queue and wire.
    stable_s, candidate_s = mirrored.timed or (asked.latency_s, asked.latency_s)
    line["stable"] = _outcome(mirrored.stable_error is not None, stable_s)
    line["candidate"] = _outcome(mirrored.error is not None, candidate_s)
    if mirrored.comparison is not None:
        line |= {"agrees": mirrored.comparison.agrees, "distance": round(mirrored.comparison.distance, 6)}
    return line


def _outcome(is_error: bool, latency_s: float) -> dict[str, Any]:
    return {"error": is_error, "latency_ms": round(latency_s * 1e3, 4)}

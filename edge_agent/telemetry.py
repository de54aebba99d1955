"""Sends windows of statistics to the gateway, within a budget of bytes, and later when it cannot be reached.

Never rows, nor a window of few rows (`discretion`), and of private requests (`StatisticsRecorder.is_private`) only how many
there were beside those that it tells of: without that, a gateway would call calm what it cannot know.

A window that cannot go yet joins the one before it (statistics are mergeable), so a long time offline costs resolution in time and
not memory. Only durations are told, never this device's clock, which may be a day off; a night asleep counts (`elapsed_s`). They
wait in memory alone: an agent that stops sends once more, and says what it loses.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.budget import BYTES_PER_HOUR
from runtime.client.address import Protocol, bearer, parse_address
from runtime.client.connections import Connections
from runtime.client.failures import said_by
from runtime.client.trust import tls_context
from runtime.errors import CallerError, EdgewardError, OverloadedError, UnauthenticatedError
from runtime.monitoring.blob import to_blob
from runtime.monitoring.discretion import LEAST_ROWS
from runtime.monitoring.monitor import Window
from runtime.monitoring.summary import Summary
from runtime.telemetry.elapsed import elapsed_s
from runtime.wire.rest_body import Body
from runtime.wire.status import error_of_http

log = logging.getLogger(__name__)

PATH: Final = "/edgeward/telemetry"
MAX_WAITING: Final = 24
"""Windows held; beyond it the oldest two of a model become one."""
MAX_DRIFTING: Final = 16
"""Features that are named as drifting on this device: joined with others' rows they tell nobody where."""
EVERY_S: Final = 15.0
TIMEOUT_S: Final = 10.0
# Of the agent's stop, for what was not sent yet; it has to end within what a service manager allows.
LAST_SEND_S: Final = 5.0
MAX_PAUSE_S: Final = 600.0

Post = Callable[[bytes], Mapping[str, Any]]


@dataclass(slots=True)
class _Waiting:
    id: str
    summary: Summary
    began: float
    ended: float
    drifting: tuple[str, ...]
    private_rows: int
    is_tried: bool = False
    """It may have arrived: it is sent again as it is, under the same id, so that it is not counted twice."""

    def join(self, later: Window | _Waiting) -> None:
        """Takes the window after it."""
        self.summary.merge(later.summary)
        self.ended, self.drifting = later.ended, later.drifting
        self.private_rows += later.private_rows


class Telemetry:
    """Takes windows from the recorder's thread (`offer`) and sends them from a thread of its own."""

    def __init__(
        self,
        device: str,
        post: Post,
        bytes_per_hour: int = BYTES_PER_HOUR,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        self._device = device
        self._post = post
        self._per_s = bytes_per_hour / 3600
        self._most = float(bytes_per_hour)
        self._left = float(bytes_per_hour)
        self._clock = clock
        self._refilled = clock()
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._private_untold: Counter[tuple[str, int]] = Counter()
        """By model and version, of windows that were dropped: told with the next one."""
        self._counts = {
            "windows": 0,
            "sent": 0,
            "sent_bytes": 0,
            "joined": 0,
            "dropped": 0,
            "refused": 0,
            "failures": 0,
        }
        self._last_error: str | None = None
        self._not_before = 0.0
        self._pause_s = EVERY_S
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, window: Window) -> None:
        """Takes a finished window; never blocks on the network. One of few rows waits until others have joined it."""
        with self._lock:
            self._counts["windows"] += 1
            for waiting in self._waiting:
                if _is_too_small(waiting) and waiting.summary.baseline.key == window.summary.baseline.key:
                    waiting.join(window)
                    self._counts["joined"] += 1
                    return
            self._waiting.append(
                _Waiting(
                    uuid.uuid4().hex, window.summary, window.began, window.ended, window.drifting, window.private_rows
                )
            )
            if len(self._waiting) > MAX_WAITING:
                self._make_room()

    def send_due(self) -> None:
        """Sends what may go now: one after the other until the budget, the gateway or the list ends it."""
        while self._clock() >= self._not_before:
            with self._lock:
                entry = next((waiting for waiting in self._waiting if not _is_too_small(waiting)), None)
                blob = None if entry is None else self._affordable(entry)
                if entry is None or blob is None:
                    return
                if not entry.is_tried:
                    entry.private_rows += self._private_untold.pop(_place(entry), 0)
                entry.is_tried = True
            if not self._send(entry, blob):
                return

    def describe(self) -> dict[str, Any]:
        """For the agent's status, as JSON."""
        with self._lock:
            return {**self._counts, "waiting": len(self._waiting), "last_error": self._last_error}

    def start(self) -> None:
        """Begins to send."""
        self._thread = threading.Thread(target=self._run, name="edgeward-telemetry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sends once more and ends the thread; what the gateway does not take then is lost with this process, and said."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(LAST_SEND_S)
        with self._lock:
            windows, rows = len(self._waiting), sum(entry.summary.rows for entry in self._waiting)
        if windows:
            log.warning(
                "statistics of %d rows (%d windows) were not sent and are lost as this agent stops: %s",
                rows,
                windows,
                self._last_error
                or f"fewer than {LEAST_ROWS} rows of a model do not travel, or the budget of bytes is spent",
            )

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(EVERY_S)
            try:
                self.send_due()
            except Exception as error:
                self._counts["failures"] += 1
                log.warning("statistics could not be sent", exc_info=error)

    def _send(self, entry: _Waiting, blob: bytes) -> bool:
        """Whether the next may follow."""
        document: dict[str, Any] = {
            "device": self._device,
            "window": entry.id,
            "age_s": max(self._clock() - entry.ended, 0.0),
            "span_s": max(entry.ended - entry.began, 0.0),
            "blob": base64.b64encode(blob).decode(),
        }
        # Only where there are some: gateways of earlier builds refuse what they do not know.
        if entry.drifting:
            document["drifting"] = entry.drifting[:MAX_DRIFTING]
        if entry.private_rows:
            document["private_rows"] = entry.private_rows
        body = json.dumps(document).encode()
        try:
            self._post(body)
        except (UnauthenticatedError, OverloadedError) as error:
            self._wait(error, error.retry_after_s if isinstance(error, OverloadedError) else MAX_PAUSE_S)
            return False
        except CallerError as error:
            # Another bundle there, or statistics of another version: it would be refused for ever.
            self._forget(entry, "refused")
            self._last_error = str(error)
            log.warning("the gateway refused statistics: %s", error)
            return True
        except EdgewardError as error:
            self._wait(error, self._pause_s)
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
            return False
        self._left -= len(body)
        self._counts["sent_bytes"] += len(body)
        self._pause_s, self._last_error = EVERY_S, None
        self._forget(entry, "sent")
        return True

    def _wait(self, error: EdgewardError, pause_s: float) -> None:
        self._not_before = self._clock() + pause_s
        if self._last_error is None:
            log.warning("statistics wait, the gateway takes none now: %s", error)
        self._last_error = str(error)

    def _forget(self, entry: _Waiting, why: str) -> None:
        with self._lock:
            self._counts[why] += 1
            self._waiting = [waiting for waiting in self._waiting if waiting is not entry]

    def _affordable(self, entry: _Waiting) -> bytes | None:
        """Its bytes, without quantiles where they do not fit; None: not within the budget yet."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._refilled) * self._per_s)
        self._refilled = now
        for with_quantiles in (True, False):
            blob = to_blob(entry.summary, with_quantiles=with_quantiles)
            if len(blob) * 4 // 3 + 256 <= self._left:
                return blob
            if self._left < self._most / 2:
                return None  # rather whole and later than at once and cut
        if len(blob) * 4 // 3 + 256 > self._most:
            self._drop(entry)
            log.warning("a window of %d bytes is larger than the whole budget of an hour; it is dropped", len(blob))
        return None

    def _make_room(self) -> None:
        for at, older in enumerate(self._waiting):
            for newer in self._waiting[at + 1 :]:
                if newer.summary.baseline.key == older.summary.baseline.key and not (older.is_tried or newer.is_tried):
                    older.join(newer)
                    self._waiting = [waiting for waiting in self._waiting if waiting is not newer]
                    self._counts["joined"] += 1
                    return
        self._drop(self._waiting[1 if len(self._waiting) > 1 else 0])

    def _drop(self, entry: _Waiting) -> None:
        self._counts["dropped"] += 1
        self._private_untold[_place(entry)] += entry.private_rows
        self._waiting = [waiting for waiting in self._waiting if waiting is not entry]


def _place(waiting: _Waiting) -> tuple[str, int]:
    """The model and its version."""
    return waiting.summary.baseline.model, waiting.summary.baseline.version


def _is_too_small(waiting: _Waiting) -> bool:
    return waiting.summary.rows < LEAST_ROWS


def poster(address: str, api_key: str | None, ca_file: Path | None = None, timeout_s: float = TIMEOUT_S) -> Post:
    """Sends a body to the gateway's HTTP port; raises what it answered, or `PeerUnreachableError`.

    `ca_file`: who signs its certificate, where the address is encrypted; None: whom the operating system believes.
    """
    server = parse_address(address, Protocol.HTTP)
    context = tls_context(ca_file) if server.is_secure else None
    headers = {} if api_key is None else {"Authorization": bearer(api_key)}

    def post(body: bytes) -> Mapping[str, Any]:
        # One connection each: between two windows a kept one would have been closed by the server.
        connections = Connections(server, headers, context)
        try:
            reply = connections.exchange("POST", PATH, Body((body,)), timeout_s)
        finally:
            connections.close()
        try:
            told = json.loads(reply.body)
        except ValueError:
            told = None
        if reply.status >= 400:
            said = told.get("error", reply.status) if isinstance(told, dict) else reply.status
            raise said_by(server, error_of_http(reply.status, str(said), reply.headers))
        return told if isinstance(told, dict) else {}

    return post

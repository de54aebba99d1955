"""A log line for every event of a release, and a webhook: JSON to a URL, off the event loop, never in anybody's way."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
# Tried again after these pauses; a receiver that is down for longer reads the audit log.
RETRY_AFTER_S: Final = (1.0, 5.0)
MAX_WAITING: Final = 256


class Webhook:
    """Posts events in order from one thread, which starts with the first."""

    def __init__(self, sleep: Callable[[float], object] | None = None) -> None:
        self.sent = 0
        self.failed = 0
        """Given up on, or not taken because too many waited."""
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(MAX_WAITING)
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait
        self._thread: threading.Thread | None = None

    def post(self, url: str, event: Mapping[str, Any]) -> None:
        """Sends `event` soon; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="edgeward-webhook", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((url, json.dumps(event).encode()))
        except queue.Full:
            self.failed += 1
            log.error("webhook %s: %d events wait already, so one is not sent; the audit log has it", url, MAX_WAITING)

    def close(self, timeout_s: float = TIMEOUT_S) -> None:
        """Sends what waits, as far as `timeout_s` reaches."""
        if self._thread is None:
            return
        with suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        self._closing.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            url, body = item
            for pause_s in (*RETRY_AFTER_S, None):
                problem = _try_to_post(url, body)
                if problem is None:
                    self.sent += 1
                    break
                if pause_s is None or self._closing.is_set():
                    self.failed += 1
                    log.error("webhook %s did not take an event: %s; the audit log has it", url, problem)
                    break
                self._sleep(pause_s)


def say(event: str, model: str, reason: str, *, is_alarm: bool) -> None:
    """The log line of an event."""
    log.log(logging.WARNING if is_alarm else logging.INFO, "release of %s: %s: %s", model, event, reason)


def event_of(event: str, model: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What a webhook gets."""
    return {"event": f"release.{event}", "model": model, "unix_ms": int(time.time() * 1000), **document}


def _try_to_post(url: str, body: bytes) -> str | None:
    """What went wrong; None: nothing."""
    # The plan has been held to http and https.
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return None
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(error)

"""The way between the agent and the gateway of a spool trial: a proxy that cuts an answer, and kills somebody at that moment."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from benchmarks.hybrid.proxy import ChaosProxy


class Link:
    """The proxy between agent and gateway, on a thread of its own."""

    def __init__(self, port: int) -> None:
        self.cut_answers = 0
        self.killed: int | None = None
        """The last process that was, at an answer."""
        self._victim: int | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._proxy = ChaosProxy("127.0.0.1", port)
        self._proxy.on_cut = self._on_cut
        self._do(self._proxy.__aenter__())
        self.port = self._proxy.port

    def cut_next(self, victim: int | None) -> None:
        """Has the next answer cut, and the process `victim` killed at that moment; None: nobody."""
        self._victim = victim
        self._proxy.cuts = 1

    def close(self) -> None:
        """Ends it."""
        self._do(self._proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _on_cut(self) -> None:
        self.cut_answers += 1
        if self._victim is not None:
            with suppress(ProcessLookupError):
                os.kill(self._victim, signal.SIGKILL)
            self.killed = self._victim

    def _do(self, job: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(job, self._loop).result(10)

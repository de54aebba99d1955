"""How a pass is ended from outside: whatever blocks in it says how that is cut short. For the agent's stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.errors import CancelledError


class Interruption:
    """Once `set`, every step of a pass raises `CancelledError`, and the step under way is cut short. Any thread may call."""

    def __init__(self) -> None:
        self._is_set = threading.Event()
        self._lock = threading.Lock()
        self._cut: Callable[[], object] | None = None

    def set(self) -> None:
        """Ends the pass under way, and every later one."""
        with self._lock:
            self._is_set.set()
            if self._cut is not None:
                self._cut()

    def check(self) -> None:
        """Raises where it is set."""
        if self._is_set.is_set():
            raise CancelledError("the agent ends; the next start goes on from here")

    def pause(self, seconds: float) -> None:
        """Sleeps, and raises where it is set."""
        self._is_set.wait(seconds)
        self.check()

    @contextmanager
    def cutting(self, cut: Callable[[], object]) -> Iterator[None]:
        """While inside, `cut` is how to end it, from another thread; what that breaks is told as `CancelledError`."""
        with self._lock:
            self.check()
            self._cut = cut
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._cut = None
        self.check()

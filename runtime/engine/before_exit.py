"""Threads that may be inside an engine when the interpreter ends, ended before it does.

A daemon thread inside an engine at that moment is unwound through C++ that does not allow it: of processes that ended during
calls of ONNX Runtime 6 of 6 aborted, of OpenVINO 8 of 16, and 7 hung (1.32, 2026.4, CPython 3.11; LiteRT: none of 6).
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final
from weakref import WeakMethod

log = logging.getLogger(__name__)

_ENDS: Final[set[WeakMethod[Any]]] = set()
_LOCK: Final = threading.Lock()


def end_before_exit(end: Callable[[], None]) -> None:
    """Has `end`, a method that ends a thread and waits for it, called when the interpreter ends, if its object lives by then.

    The same one once, however often this is asked for.
    """
    with _LOCK:
        _ENDS.add(WeakMethod(end, _ENDS.discard))
    _register()


@cache
def _register() -> None:
    atexit.register(_end_all)


def _end_all() -> None:
    with _LOCK:
        ends = [alive for each in list(_ENDS) if (alive := each()) is not None]
    for end in ends:
        try:
            end()
        except Exception:  # the others are still inside an engine
            log.exception("a thread did not end as it should before the interpreter does")

"""The uses of a model that are under way: counted without a lock, so that its end can wait for them."""

from __future__ import annotations

import threading
from typing import Final

from runtime.errors import ModelNotReadyError

_NONE_LEFT: Final = threading.Condition()
"""Waited on by whoever closes anything; one for all, since to make one takes longer than all else that uses need."""


class Uses:
    """Notes every use, one object for all of them; `close` waits until none is left. Any thread may call anything.

    A use is noted first and checked for a `close` after that, and ends by the same order, so that either the use sees
    that the end has come or `close` sees the use.
    """

    __slots__ = ("_refusal", "_under_way", "is_closing")

    def __init__(self, refusal: str) -> None:
        """`refusal`: what who comes too late is told."""
        self.is_closing = False
        """Whether `close` was called; uses under way may still be ending."""
        self._refusal = refusal
        self._under_way: list[None] = []
        """One for every use. Lists grow and shrink atomically, so that a call takes no lock for it."""

    def begin(self) -> None:
        """For a use that ends elsewhere, with `end`; `ModelNotReadyError` once `close` was called."""
        self._under_way.append(None)
        if self.is_closing:
            self.end()
            raise ModelNotReadyError(self._refusal)

    def again(self) -> None:
        """Another use beside one that lasts, also while `close` waits; ends with `end`."""
        self._under_way.append(None)

    def end(self) -> None:
        """Ends one use."""
        self._under_way.pop()
        if self.is_closing and not self._under_way:
            with _NONE_LEFT:
                _NONE_LEFT.notify_all()

    def close(self, timeout_s: float) -> int | None:
        """Refuses further uses and waits for those under way; the number left after `timeout_s`, None when it was called before."""
        with _NONE_LEFT:
            if self.is_closing:
                return None
            self.is_closing = True
            _NONE_LEFT.wait_for(lambda: not self._under_way, timeout_s)
            return len(self._under_way)

    __enter__ = begin

    def __exit__(self, *exc: object) -> None:
        self.end()

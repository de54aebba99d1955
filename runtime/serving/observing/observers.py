"""Who looks on while requests are answered: told of every answer, never able to change or to fail one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from runtime.engine.model import Model
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Told on the event loop, between the answer and its way back: takes some microseconds, and hands work to a thread."""

    def observe(self, model: Model, request: InferenceRequest, outputs: Mapping[str, Array], rows: int) -> None:
        """One request and all outputs of the model. The arrays are shared with the reply: to be read, never written."""


class Observers:
    """The observers of one service. One that raises is counted and said once in a while; the request goes on."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.failures = 0
        self._observers = tuple(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, model: Model, request: InferenceRequest, outputs: Mapping[str, Array], rows: int) -> None:
        """Tells every observer."""
        for observer in self._observers:
            try:
                observer.observe(model, request, outputs, rows)
            except Exception as error:
                self.failures += 1
                # The first, the second, the fourth, ...: a broken observer does not fill the log.
                if self.failures & (self.failures - 1) == 0:
                    log.warning("an observer failed, %d times so far; answers go on", self.failures, exc_info=error)

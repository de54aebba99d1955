"""Whether callers of a release may be answered by its split: only while this gateway knows what was decided."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

log = logging.getLogger(__name__)

FENCED: Final = "the database cannot be asked what was decided: stable answers every request here until it can"
UNREAD: Final = "what the database says of this release cannot be read: stable answers every request here until it can"
"""For callers; people are told how."""
UNFENCED: Final = "what was decided is known again: callers are answered by that split"


class Fence:
    """Of one release in this process; while it is up, stable answers everybody. Used on the event loop alone."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.trusted_until = math.inf
        """Until then (`time.perf_counter`) callers are answered by the split: whoever leads may have moved since."""
        self.unread: str | None = None
        """Why what the database says of it cannot be read. Until it can, stable answers here and nothing is decided."""
        self.is_told = False
        """Whether people were told that it is up."""
        self.answers = 0
        """Given by stable because of it, by this gateway since it has the release."""

    @property
    def is_up(self) -> bool:
        """Whether stable answers everything here, because what was decided cannot be known."""
        return time.perf_counter() >= self.trusted_until

    @property
    def because(self) -> str:
        """Why, where it is."""
        return self.unread or FENCED

    @property
    def because_for_callers(self) -> str:
        """The same without what only people of this gateway should read."""
        return FENCED if self.unread is None else UNREAD

    def trust(self, until: float) -> None:
        """Callers may be answered by the split until then (`time.perf_counter`), if that is what the database says."""
        if self.unread is None:
            self.trusted_until = until

    def note_unread(self, why: str) -> None:
        """It is up from the next request on, until the release is restored, or a look can read it."""
        if self.unread != why:
            log.error("stable answers for %s, and nothing is decided about its release: %s", self._model, why)
        self.unread = why
        self.trusted_until = min(self.trusted_until, time.perf_counter())

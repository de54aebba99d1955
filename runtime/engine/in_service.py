"""What answers for a model at one moment: a candidate, opened. It is closed when nothing uses it any more."""

from __future__ import annotations

import logging
import sys

from runtime.backends.opened import OpenedVariant
from runtime.engine.own_load import claim_of
from runtime.selection.choice import Choice, Ranked

log = logging.getLogger(__name__)


class InService:
    """A ranked candidate of a choice, and its opened variant; never changed, only replaced as a whole.

    A call takes a reference and keeps it to its end. The variant is closed with the last reference, so that a successor can
    take its place at any moment and no call need be counted for that.
    """

    __slots__ = ("_closer", "choice", "claim", "opened", "place")

    def __init__(self, choice: Choice, place: int, opened: OpenedVariant, closer: _Closer | None = None) -> None:
        self.choice = choice
        self.place = place
        self.opened = opened
        self.claim = claim_of(choice.ranked[place].candidate)
        """What a call takes while it runs."""
        self._closer = closer or _Closer(opened)

    @property
    def ranked(self) -> Ranked:
        """The candidate and what was measured of it."""
        return self.choice.ranked[self.place]

    def measured_anew(self, choice: Choice, place: int) -> InService:
        """The same opened variant under a new choice, which ranks it at `place`."""
        return InService(choice, place, self.opened, self._closer)

    def close(self) -> None:
        """Closes it now; nothing may use it any more."""
        self._closer.close()


class _Closer:
    """Closes a variant once: when told to, or when nobody holds this any more. `weakref.finalize` does so too, and takes a tenth
    of all that a load does around a small session.
    """

    __slots__ = ("_open",)

    def __init__(self, opened: OpenedVariant) -> None:
        self._open = [opened]
        """Empty once it is closed: a list gives what it has to one thread only."""

    def close(self) -> None:
        try:
            opened = self._open.pop()
        except IndexError:
            return
        _close(opened)

    def __del__(self) -> None:
        if not sys.is_finalizing():  # a process that ends gives everything back by itself
            self.close()


def _close(opened: OpenedVariant) -> None:
    try:
        opened.close()
    except Exception as error:  # nobody could take it: this may run at the end of anybody's call
        log.warning("a session failed to close", exc_info=error)

"""Several sessions of one file as one: for engines of which a session runs one call at a time (`Overlap.OWN`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

from runtime.backends.base import Overlap, Session
from runtime.tensors import Array


class SessionPool:
    """As many calls at the same time as it has sessions; whoever comes beyond that waits for one to be free."""

    overlap = Overlap.OWN

    def __init__(self, sessions: Sequence[Session]) -> None:
        """At least one, all of the same file."""
        self.inputs = sessions[0].inputs
        self.outputs = sessions[0].outputs
        self.passes_nan = sessions[0].passes_nan
        self._sessions = sessions
        # First in, first out: a warm-up of as many calls as there are sessions reaches every one of them.
        self._idle: SimpleQueue[Session] = SimpleQueue()
        for session in sessions:
            self._idle.put(session)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """By a session that is free; its errors are those of `Session.run`."""
        session = self._idle.get()
        try:
            return session.run(inputs)
        finally:
            self._idle.put(session)

    def close(self) -> None:
        """Closes every session, also when one fails to."""
        failed: Exception | None = None
        for session in self._sessions:
            try:
                session.close()
            except Exception as error:
                failed = error
        if failed is not None:
            raise failed


def open_beside(first: Session, count: int, open_one: Callable[[], Session]) -> Session:
    """`first` and further sessions up to `count`, as one; errors are those of opening, and then none stays open."""
    sessions = [first]
    try:
        while len(sessions) < count:
            sessions.append(open_one())
    except BaseException:
        for session in sessions[1:]:
            session.close()
        raise
    return first if len(sessions) == 1 else SessionPool(sessions)

"""How often something happens: what is cheap once and costs the server when a client does nothing else."""

from __future__ import annotations

from runtime.serving.http2.frames import ConnectionFault, ErrorCode


class Tally:
    """Counts, within spans of `within_s` seconds that begin with the first; `what` names it in the fault."""

    __slots__ = ("_count", "_most", "_since", "_what", "_within_s")

    def __init__(self, most: int, within_s: float, what: str) -> None:
        self._most = most
        self._within_s = within_s
        self._what = what
        self._count, self._since = 0, 0.0

    def note(self, now: float) -> None:
        """One more, at `now`; `ConnectionFault` (ENHANCE_YOUR_CALM) when that is one too many."""
        if not self._count or now - self._since > self._within_s:
            self._count, self._since = 0, now
        self._count += 1
        if self._count > self._most:
            text = f"more than {self._most} {self._what} within {self._within_s:g} s"
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text)

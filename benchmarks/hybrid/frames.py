"""Counts the calls in a stream of HTTP/2 frames, or the replies in what comes back, byte by byte as it passes. Pure.

RFC 9113: a preface of 24 bytes, then frames with a head of 9: length (3), type (1), flags (1), stream (4). A HEADERS frame on a
stream that was not there yet is a call (an inference, a retry, a hedge or a probe), and from the server the beginning of a reply.
"""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = 9
_HEADERS: Final = 1


class CallCounter:
    """Of one direction of a connection, from its first byte on; servers send no preface."""

    def __init__(self, *, is_client: bool = True) -> None:
        self.calls = 0
        self._seen: set[int] = set()
        self._skip = len(PREFACE) if is_client else 0
        self._head = b""

    def feed(self, chunk: bytes) -> int:
        """Takes what was sent next; how many calls began in it."""
        before = self.calls
        at = 0
        while at < len(chunk):
            if self._skip:
                step = min(self._skip, len(chunk) - at)
                self._skip -= step
                at += step
                continue
            step = min(_HEAD - len(self._head), len(chunk) - at)
            self._head += chunk[at : at + step]
            at += step
            if len(self._head) == _HEAD:
                self._skip = int.from_bytes(self._head[:3], "big")
                stream = int.from_bytes(self._head[5:9], "big") & 0x7FFF_FFFF
                if self._head[3] == _HEADERS and stream not in self._seen:
                    self._seen.add(stream)
                    self.calls += 1
                self._head = b""
        return self.calls - before

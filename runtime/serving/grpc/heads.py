"""The fields around a gRPC call over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): those of a request
read, those of an answer made.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

from runtime.errors import InvalidInputError
from runtime.serving.http2.fields import Fields, encode_fields
from runtime.serving.http2.frames import ErrorCode, StreamFault

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
# A field's name in HTTP/2: a token without capitals.
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_OF_REQUESTS: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_HTTP1: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_OWN: Final = frozenset({b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"})
_CONTENT_TYPE: Final = b"application/grpc"
# What a text may hold as it is (printable ASCII without the percent sign).
_AS_IT_IS: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

Metadata = tuple[tuple[str, str | bytes], ...]

RESPONSE: Final = encode_fields(
    [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity, deflate, gzip"),
    ]
)
"""The head of every answer that has messages."""
OK: Final = encode_fields([(b"grpc-status", b"0")])
"""The end of one that went well."""


class NoGrpcError(Exception):
    """An HTTP/2 request that is no gRPC call; `block` answers it."""

    def __init__(self, status: bytes, text: str) -> None:
        super().__init__(text)
        self.block = encode_fields([(b":status", status), (b"grpc-status", b"2"), (b"grpc-message", _percent(text))])


@dataclass(frozen=True, slots=True)
class CallHead:
    """What the head of a request says of the call."""

    path: str
    """`/package.Service/Method`."""
    fields: Fields
    timeout_s: float | None
    encoding: str | None
    """How messages with the flag are packed; None: none may be."""

    def metadata(self) -> Metadata:
        """What the caller sent beside the message; values of names in `-bin` as bytes. `InvalidInputError` where they are not."""
        told: list[tuple[str, str | bytes]] = []
        for name, value in self.fields:
            if name in _OWN or name.startswith(b":"):
                continue
            if name.endswith(b"-bin"):
                told.extend((name.decode(), _from_base64(name, part)) for part in value.split(b","))
            else:
                told.append((name.decode(), value.decode("latin-1")))
        return tuple(told)


def read_head(fields: Fields) -> CallHead:
    """The head of a call. `StreamFault` for fields that are not HTTP/2's, `NoGrpcError`, `InvalidInputError` for a bad timeout."""
    first: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _OF_REQUESTS:  # each once, before all others (RFC 9113, 8.3)
            is_wrong = name in first or (len(first) > 0 and not next(reversed(first)).startswith(b":"))
        else:
            is_wrong = _NAME.fullmatch(name) is None or name in _OF_HTTP1
        if is_wrong:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, f"the header field {name!r:.100} may not be there")
        if b"\x00" in value or b"\r" in value or b"\n" in value:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, f"the header field {name!r:.100} has a value that is none")
        first.setdefault(name, value)
    method, path = first.get(b":method"), first.get(b":path")
    if method is None or not path or b":scheme" not in first:
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a request without :method, :scheme or :path")
    if method != b"POST":
        raise NoGrpcError(b"405", f"method {method.decode('latin-1'):.40}; gRPC calls are POST")
    kind = first.get(b"content-type", b"")
    if kind != _CONTENT_TYPE and not kind.startswith((_CONTENT_TYPE + b"+", _CONTENT_TYPE + b";")):
        raise NoGrpcError(b"415", f"content-type {kind.decode('latin-1'):.100}; expected application/grpc")
    return CallHead(
        path.decode("latin-1"), fields, _timeout_s(first.get(b"grpc-timeout")), _encoding(first.get(b"grpc-encoding"))
    )


def end_block(code: int, text: str, metadata: Iterable[tuple[str, str]] = ()) -> bytes:
    """The fields that end an answer which has messages."""
    return encode_fields(_ending(code, text, metadata))


def only_block(code: int, text: str, metadata: Iterable[tuple[str, str]] = ()) -> bytes:
    """The fields of an answer that has nothing else."""
    return encode_fields([(b":status", b"200"), (b"content-type", b"application/grpc"), *_ending(code, text, metadata)])


def _ending(code: int, text: str, metadata: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    ends = [(b"grpc-status", b"%d" % code), (b"grpc-message", _percent(text))]
    return ends + [(name.encode(), value.encode("latin-1")) for name, value in metadata]


def _percent(text: str) -> bytes:
    return quote_from_bytes(text.encode("utf-8", "replace"), safe=_AS_IT_IS).encode()


def _timeout_s(given: bytes | None) -> float | None:
    if given is None:
        return None
    found = _TIMEOUT.fullmatch(given)
    if found is None:
        raise InvalidInputError(f"grpc-timeout is {given!r:.40}; expected up to eight digits and one of H M S m u n")
    return int(found[1]) * _UNITS[found[2]]


def _encoding(given: bytes | None) -> str | None:
    return None if given in (None, b"identity") else given.decode("latin-1")


def _from_base64(name: bytes, value: bytes) -> bytes:
    try:
        return base64.b64decode(value.strip() + b"=" * (-len(value.strip()) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidInputError(f"metadata {name!r:.60} is not base64: {error}") from None

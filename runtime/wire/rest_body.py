"""A body of the binary tensor extension: a JSON header and raw tensors behind it, cut apart and put together.

`Inference-Header-Content-Length` says where the JSON ends; without it the whole body is JSON. Nothing here knows what
the JSON means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from runtime.errors import InvalidInputError
from runtime.tensors import Chunk

HEADER_LENGTH = "Inference-Header-Content-Length"

# More digits than this are beyond any body, and would only feed int().
_MAX_LENGTH_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Body:
    """What goes over the wire: chunks in order, and the length of the JSON where raw tensors follow it."""

    chunks: tuple[Chunk, ...]
    header_length: int | None = None
    """The value of `Inference-Header-Content-Length`; None: the body is JSON and nothing else."""

    @property
    def size_bytes(self) -> int:
        """The Content-Length."""
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def content_type(self) -> str:
        """The media type."""
        return "application/json" if self.header_length is None else "application/octet-stream"

    def joined(self) -> bytes:
        """The body as one `bytes`: a copy where there is more than one chunk."""
        return bytes(self.chunks[0]) if len(self.chunks) == 1 else b"".join(self.chunks)


class BinaryPart:
    """The raw tensors behind the JSON, handed out in order as views of the body."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def left_bytes(self) -> int:
        """How much nobody has taken yet."""
        return len(self._data) - self._at

    def take(self, size: int) -> memoryview:
        """The next `size` bytes; the caller has compared with `left_bytes`."""
        start = self._at
        self._at += size
        return self._data[start : self._at]


def split(body: Chunk, header_length: str | int | None) -> tuple[dict[str, Any], BinaryPart]:
    """The JSON object and the binary part; `InvalidInputError` for a length or JSON that does not hold."""
    view = memoryview(body)
    if header_length is None:
        return parse_object(body), BinaryPart(view[len(view) :])
    length = _checked_length(header_length, len(view))
    return parse_object(view[:length]), BinaryPart(view[length:])


def parse_object(text: Chunk) -> dict[str, Any]:
    """The JSON object of `text`, which must be UTF-8 and standard JSON: no NaN, no Infinity."""
    try:
        value = json.loads(str(text, "utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the body is not UTF-8 at byte {error.start}; raw tensors behind the JSON need the header {HEADER_LENGTH}"
        ) from None
    except RecursionError:
        raise InvalidInputError("the JSON is nested too deeply; tensors may be sent flat") from None
    except ValueError as error:
        raise InvalidInputError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"the body is a JSON {json_kind(value)}; expected an object")
    return value


def json_kind(value: object) -> str:
    """JSON's own word for what a parsed value is."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _checked_length(given: str | int, body_size: int) -> int:
    text = str(given).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
        raise InvalidInputError(f"{HEADER_LENGTH} is {text[:40]!r}; expected the number of bytes of JSON in the body")
    length = int(text)
    if length > body_size:
        raise InvalidInputError(f"{HEADER_LENGTH} is {length}, but the body has only {body_size} bytes")
    if length == 0:
        raise InvalidInputError(f"{HEADER_LENGTH} is 0; the body starts with a JSON object that names the tensors")
    return length


def _refuse_constant(token: str) -> NoReturn:
    raise InvalidInputError(
        f"the body has the token {token}, which JSON does not know; send such values as binary data"
    )

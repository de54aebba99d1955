"""Which texts every database keeps: PostgreSQL refuses NUL, and nothing that speaks UTF-8 has half of a surrogate pair.

Callers choose ids, segments and names. One that is refused only when it is written takes whatever is written with it along.
"""

from __future__ import annotations

import re
from typing import Final

from runtime.errors import InvalidInputError

_REFUSED: Final = re.compile("[\0\ud800-\udfff]")


def check_text(text: str, what: str, most: int | None = None) -> str:
    """`text`, where it can be kept, with `most` characters at most; otherwise `InvalidInputError`, which calls it `what`."""
    if most is not None and len(text) > most:
        raise InvalidInputError(f"{what} has {len(text)} characters; expected {most} at most")
    found = _REFUSED.search(text)
    if found is not None:
        raise InvalidInputError(
            f"{what} is {text!r:.80}, with {found[0]!r} at {found.start()}, which no database keeps; leave it out"
        )
    return text


def check_texts(value: object, what: str) -> None:
    """`check_text` of every text in a document of JSON, the names of its objects too."""
    left = [value]
    while left:
        match left.pop():
            case str(text):
                check_text(text, f"a text in {what}")
            case list(items):
                left += items
            case dict(items):
                left += [*items, *items.values()]


def kept_text(text: str) -> str:
    """`text` as it can be kept, U+FFFD in place of what cannot: for what is only shown to people."""
    return _REFUSED.sub("\ufffd", text)

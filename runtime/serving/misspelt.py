"""Request parameters that are a slip away from ones that mean something here.

The protocol lets callers send parameters of their own, which are taken and mean nothing (a release may split by any of them). But
`privcy: local_only` would send a row away that must stay, and nobody would be told: a name that one letter makes one of ours is
refused. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runtime.errors import InvalidInputError
from runtime.wire.values import Parameters


class KnownNames:
    """Of the parameters that a service looks at."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._longest = max(map(len, self._names))
        # Nobody misses the first letter, and "sync" is no slip of "async".
        self._initials = {name[0] for name in self._names}
        # Two words that one letter tells apart (one too many, too few, another, in another place) share a word without one letter.
        self._by_trimmed = {trimmed: name for name in self._names for trimmed in _trimmed(name)}

    def check(self, parameters: Parameters) -> None:
        """`InvalidInputError`, with the name that was meant, where one is misspelt."""
        if parameters.keys() <= self._names:
            return
        for name in parameters:
            if name not in self._names and (meant := self.meant_by(name)):
                raise InvalidInputError(
                    f"parameter {name!r} means nothing here; {meant!r} was meant, most likely: spell it so, or give one of your "
                    "own another name"
                )

    def meant_by(self, name: str) -> str | None:
        """The known name that `name` is one letter away from; None for any other, of which a plural is one."""
        if name[:1] not in self._initials or len(name) > self._longest + 1:
            return None
        for trimmed in _trimmed(name):
            meant = self._by_trimmed.get(trimmed)
            if meant is not None and name[:1] == meant[0] and name != f"{meant}s":
                return meant
        return None


def _trimmed(name: str) -> Iterator[str]:
    """The word, and without each of its letters."""
    yield name
    for at in range(len(name)):
        yield name[:at] + name[at + 1 :]

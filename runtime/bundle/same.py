"""A key of what was worked out from certain objects: the same only for those very objects.

To hash a manifest or a bundle by what it says takes as long as working many a thing out anew.
"""

from __future__ import annotations


class Same:
    """`objects` as themselves, whatever they say of being equal; it keeps them alive, so that no other gets their identity."""

    __slots__ = ("_identities", "objects")

    def __init__(self, *objects: object) -> None:
        self.objects = objects
        self._identities = tuple(map(id, objects))

    def __hash__(self) -> int:
        return hash(self._identities)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._identities == other._identities

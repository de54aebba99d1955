"""Which of two versions a request gets: by a stable hash of its key, so that whoever had the candidate keeps it.

Pure, and on the way of every request: a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from math import ceil
from random import getrandbits
from typing import Final

from cloud_gateway.guards import Arm
from runtime.store import kept_text

_SCALE: Final = 2.0**64
# Of one release; more are told together, so that a parameter with a value of its own for every request cannot fill memory.
MAX_SEGMENTS: Final = 16
OTHER_SEGMENT: Final = "other"


Place = int
"""Where a key falls: 64 bits, the same for the same key and salt, uniform over keys. A bare number: whatever more is made of it
on the way of a request costs a request (15 of 37 us with cold caches, for a named tuple and a division)."""

NOWHERE: Final[Place] = 0
"""Of a request whose key does not matter: one version has all of the traffic, and no sample ratio is checked."""


def place(salt: bytes, key: str) -> Place:
    """Where `key` falls. `salt` (up to 64 bytes) is the release's: another release puts other users first."""
    try:
        name = key.encode()
    except UnicodeEncodeError:  # what JSON may name has no UTF-8
        name = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8, key=salt).digest(), "big")


random_place: Final[Callable[[], Place]] = partial(getrandbits, 64)
"""Where a request without any key falls. No function of ours: that is a call more on its way."""


def arm_at(where: Place, share: float) -> Arm:
    """Who answers there, while the candidate has `share` of the traffic, 0 to 1."""
    return Arm.CANDIDATE if where < share * _SCALE else Arm.STABLE


def name_of(where: Place) -> str:
    """The key's hash, for statistics; nobody can read the key from it without guessing."""
    return f"{where:016x}"


@dataclass(frozen=True, slots=True)
class Split:
    """Two versions of a model and how its traffic is divided; replaced as a whole, so that every request sees one split.

    What is worked out once here is not on the way of every request.
    """

    release: int
    model: str
    stable: int
    candidate: int
    share: float
    """Of the candidate, 0 to 1."""
    salt: bytes
    routing_key: str
    """The request parameter that is the key."""
    segment: str = ""
    """The request parameter that names the segment."""
    candidate_below: Place = field(init=False)
    """The candidate answers at lower places."""
    has_both: bool = field(init=False)
    """Whether it matters where a key falls."""
    stable_version: str = field(init=False)
    """As requests name it; the candidate's too."""
    candidate_version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidate_below", ceil(self.share * _SCALE))
        object.__setattr__(self, "has_both", 0.0 < self.share < 1.0)
        object.__setattr__(self, "stable_version", str(self.stable))
        object.__setattr__(self, "candidate_version", str(self.candidate))

    def arm(self, where: Place) -> Arm:
        """Who answers there."""
        return Arm.CANDIDATE if where < self.candidate_below else Arm.STABLE

    def version(self, arm: Arm) -> str:
        """The version of an arm, as requests name it."""
        return self.candidate_version if arm is Arm.CANDIDATE else self.stable_version


@dataclass(slots=True)
class Segments:
    """The segments seen in one release; the first so many by name, the rest together."""

    seen: set[str] = field(default_factory=set)

    def of(self, value: object) -> str:
        """The segment that a parameter's value names; empty for none."""
        if value is None:
            return ""
        name = kept_text(str(value)[:64])
        if name in self.seen:
            return name
        if len(self.seen) >= MAX_SEGMENTS:
            return OTHER_SEGMENT
        self.seen.add(name)
        return name

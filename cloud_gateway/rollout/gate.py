"""Which devices a wave reaches: pure, and the same on every gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def position(release: int, device: str) -> float:
    """Where a device stands in a release's order, 0 to 1: by a hash, so nobody is always first and no gateway need remember."""
    digest = hashlib.sha256(f"{release}:{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def next_devices(release: int, waiting: Iterable[str], free: int) -> set[str]:
    """The first `free` of the devices that have not got the version, in the release's order."""
    return set(sorted(waiting, key=lambda device: position(release, device))[: max(free, 0)])

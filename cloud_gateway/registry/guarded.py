"""Errors of a registry's place as errors of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from runtime.errors import StorageError

T = TypeVar("T")


def guarded(work: Callable[[], T], where: object) -> T:
    """What `work` returns; `StorageError` where the place fails it."""
    try:
        return work()
    except OSError as error:
        raise StorageError(
            f"the registry at {where} failed: {error}; look at its disk space and rights, then try again"
        ) from error

"""What is kept open, and what is closed for it."""

from __future__ import annotations

from typing import cast

from runtime.backends.opened import OpenedVariant
from runtime.selection.open_sessions import KEEP_OPEN_GPU_MB, KEEP_OPEN_MB, OpenSessions


class Opened:
    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        assert self.is_open, "closed once"
        self.is_open = False


def keep(sessions: OpenSessions, key: str, memory_mb: float, is_on_gpu: bool = False) -> Opened:
    opened = Opened()
    sessions.keep(key, cast("OpenedVariant", opened), memory_mb, is_on_gpu)
    return opened


def test_the_one_idle_longest_makes_room() -> None:
    sessions = OpenSessions()
    first, second = keep(sessions, "first", KEEP_OPEN_MB / 2), keep(sessions, "second", KEEP_OPEN_MB / 2)
    assert sessions.get("first") is cast("OpenedVariant", first)
    third = keep(sessions, "third", 1.0)
    assert (first.is_open, second.is_open, third.is_open) == (True, False, True)
    assert sessions.get("second") is None


def test_one_that_is_larger_than_all_is_kept_alone() -> None:
    sessions = OpenSessions()
    small, large = keep(sessions, "small", 1.0), keep(sessions, "large", 10 * KEEP_OPEN_MB)
    assert (small.is_open, large.is_open) == (False, True)


def test_the_gpus_memory_is_counted_apart() -> None:
    sessions = OpenSessions()
    host, gpu = keep(sessions, "host", KEEP_OPEN_MB), keep(sessions, "gpu", KEEP_OPEN_GPU_MB, is_on_gpu=True)
    assert host.is_open
    assert gpu.is_open
    other = keep(sessions, "other", 1.0, is_on_gpu=True)
    assert (host.is_open, gpu.is_open, other.is_open) == (True, False, True)


def test_what_one_takes_counts_once_it_is_known() -> None:
    sessions = OpenSessions()
    first, second = keep(sessions, "first", 0.0), keep(sessions, "second", 0.0)
    sessions.weigh("first", KEEP_OPEN_MB)
    sessions.weigh("gone", KEEP_OPEN_MB)
    keep(sessions, "third", 1.0)
    assert (first.is_open, second.is_open) == (False, True)


def test_a_key_is_open_once() -> None:
    sessions = OpenSessions()
    before, after = keep(sessions, "a", 1.0), keep(sessions, "a", 1.0)
    assert (before.is_open, after.is_open) == (False, True)
    sessions.close_all()
    sessions.close("a")
    assert not after.is_open

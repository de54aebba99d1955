"""A release's status again and again until it has ended; a gateway that is away meanwhile is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from runtime.errors import DeadlineExceededError, PeerError

WATCH_EVERY_S: Final = 1.0

Told = dict[str, Any]


def watched(told: Told, ask: Callable[[], Told], sleep: Callable[[float], object]) -> Iterator[Told]:
    """`told`, then what `ask` says every `WATCH_EVERY_S`; while nobody answers, what was told last, with that as its trouble."""
    yield told
    while told["is_alive"]:
        sleep(WATCH_EVERY_S)
        try:
            told = ask()
        except (PeerError, DeadlineExceededError) as error:
            trouble = (
                f"the gateway does not answer ({error}); shown is what it said last, and it is asked again every second"
            )
            told = told | {"trouble": trouble}
        yield told

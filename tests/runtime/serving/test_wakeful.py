"""An event loop that looks for the next request of a lone client, on a real loop whose looks at its sockets are counted."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runtime.serving import wakeful
from runtime.serving.wakeful import REST_ANSWERS, Wakeful

LOOK_S = 0.05


class Looks(selectors.DefaultSelector):
    """Counts how often the loop looked without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            self.count += 1
        return super().select(timeout)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Wakeful, Looks], Coroutine[Any, Any, None]]], None]:
    monkeypatch.setattr(wakeful, "LOOK_S", LOOK_S)

    def run_(scene: Callable[[Wakeful, Looks], Coroutine[Any, Any, None]]) -> None:
        looks = Looks()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(looks)) as runner:
            runner.run(scene(Wakeful(), looks))

    return run_


async def looks_in(looks: Looks, seconds: float) -> int:
    before = looks.count
    await asyncio.sleep(seconds)
    return looks.count - before


FEW = 4
"""A sleep is woken a moment early, or beside something else of the loop's own."""


def test_after_the_answer_of_a_lone_client_the_loop_looks_and_then_sleeps(run: Any) -> None:
    async def scene(wakes: Wakeful, looks: Looks) -> None:
        wakes.came()
        wakes.answered()
        assert await looks_in(looks, LOOK_S) > FEW
        await asyncio.sleep(LOOK_S)
        assert await looks_in(looks, LOOK_S) <= FEW

    run(scene)


def test_it_looks_no_longer_than_until_the_next_request(run: Any) -> None:
    async def scene(wakes: Wakeful, looks: Looks) -> None:
        wakes.came()
        wakes.answered()
        wakes.came()
        assert await looks_in(looks, LOOK_S) <= FEW
        wakes.answered()
        assert await looks_in(looks, LOOK_S) > FEW, "what was found is worth another look"

    run(scene)


def test_several_clients_are_not_looked_for(run: Any) -> None:
    async def scene(wakes: Wakeful, looks: Looks) -> None:
        for told in (wakes.came, wakes.came, wakes.answered, wakes.answered):
            told()
        assert await looks_in(looks, LOOK_S) <= FEW

    run(scene)


def test_after_a_look_in_vain_it_rests(run: Any) -> None:
    async def scene(wakes: Wakeful, looks: Looks) -> None:
        wakes.came()
        wakes.answered()
        await asyncio.sleep(2 * LOOK_S)
        for _ in range(REST_ANSWERS):
            wakes.came()
            wakes.answered()
        assert await looks_in(looks, LOOK_S) <= FEW
        wakes.came()
        wakes.answered()
        assert await looks_in(looks, LOOK_S) > FEW

    run(scene)

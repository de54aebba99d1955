"""Syncing beside the agent: a pass that does not end keeps the agent from ending no longer than its bound, and goodbye is said."""

import asyncio
import threading
from typing import Any

import pytest

from edge_agent.sync import keeper as module
from edge_agent.sync.keeper import Keeper


class Syncer:
    """A pass that ends when it is interrupted, or not even then."""

    def __init__(self, *, is_deaf: bool) -> None:
        self.is_deaf = is_deaf
        self.began = threading.Event()
        self.over = threading.Event()
        self.told: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {"models": {}}

    def sync(self) -> dict[str, Any]:
        self.began.set()
        self.over.wait(30)
        self.told.append("pass ended")
        return {"models": {}}

    def interrupt(self) -> None:
        self.told.append("interrupted")
        if not self.is_deaf:
            self.over.set()

    def stop(self) -> None:
        self.told.append("goodbye")


@pytest.mark.parametrize("is_deaf", [False, True])
async def test_closing_ends_the_pass_or_leaves_it_and_says_goodbye(
    is_deaf: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if is_deaf:
        monkeypatch.setattr(module, "END_WITHIN_S", 0.05)
    syncer = Syncer(is_deaf=is_deaf)
    keeper = Keeper(syncer, every_s=1000.0)  # type: ignore[arg-type]
    keeper.start()
    assert await asyncio.to_thread(syncer.began.wait, 30)
    async with asyncio.timeout(20):
        await keeper.close()
    expected = ["interrupted", "goodbye"] if is_deaf else ["interrupted", "pass ended", "goodbye"]
    assert syncer.told == expected
    assert ("did not end within" in caplog.text) is is_deaf
    syncer.over.set()

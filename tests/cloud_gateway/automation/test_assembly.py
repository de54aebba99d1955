"""What runs beside the service goes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from cloud_gateway.automation.assembly import go_on


async def test_a_loop_that_fails_is_said_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    began: list[int] = []
    is_back = asyncio.Event()

    async def run() -> None:
        began.append(len(began))
        if len(began) == 1:
            raise RuntimeError("unforeseen")
        is_back.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(go_on(run))
    await asyncio.wait_for(is_back.wait(), 20)
    assert "begins anew" in caplog.text
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()

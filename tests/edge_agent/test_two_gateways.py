"""An agent before two real gateways, one behind a slow link: it is left out, comes back, and status and page show both."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hybrid.proxy import ChaosProxy, Link
from runtime.bundle.bundle import Bundle
from runtime.client.aio import AsyncClient
from tests.browser import browsing, page_at
from tests.programs import PATIENCE_S, Program, environment, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUN = ("run", "digits", "--grpc-port", "0", "--http-port", "0")


async def test_the_slower_of_two_is_left_out_and_both_are_shown(digits: Bundle, tmp_path: Path) -> None:
    samples = digits.samples()
    assert samples is not None
    image = {"image": samples.inputs["image"][:1]}
    with ExitStack() as stack:
        clouds: list[Program] = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            clouds.append(await asyncio.to_thread(stack.enter_context, started(tmp_path / name, "gateway", *RUN)))
        async with ChaosProxy("127.0.0.1", int(clouds[0].grpc.rpartition(":")[2]), Link(latency_s=0.2)) as proxy:
            slow, fast = f"127.0.0.1:{proxy.port}", clouds[1].grpc
            more = ("--gateway", slow, "--gateway", fast, "--policy", "cloud_only")
            agent = await asyncio.to_thread(stack.enter_context, started(tmp_path, "agent", *RUN, *more))
            client = AsyncClient(agent.grpc)

            async def until(is_so: Callable[[list[Any]], bool]) -> list[Any]:
                async with asyncio.timeout(2 * PATIENCE_S):
                    while True:
                        await asyncio.gather(*(client.predict("digits", image, timeout_s=10.0) for _ in range(60)))
                        told: list[Any] = (await asyncio.to_thread(agent.status))["gateways"]
                        if is_so(told):
                            return told

            told = await until(lambda told: bool(told[0]["left_out"]))
            assert "it takes" in told[0]["left_out"]
            assert (told[1]["address"], told[1]["left_out"]) == (fast, None)
            await asyncio.to_thread(look_at, agent, tmp_path, slow, fast)
            proxy.link = Link()
            before = told[0]["recent_answers"]
            await until(lambda told: told[0]["left_out"] is None and told[0]["recent_answers"] > before)
            await client.close()


def look_at(agent: Program, home: Path, slow: str, fast: str) -> None:
    """What people see while the first gateway is left out."""
    run = [sys.executable, "-m", "edgeward", "agent", "status", "--http-port", agent.http.rpartition(":")[2]]
    shown = subprocess.run(run, cwd=home, env=environment(home), capture_output=True, text=True, timeout=60)
    for address in (slow, fast):
        assert f"{address} reachable; requests go there" in " ".join(shown.stdout.split())
    with browsing() as browser, page_at(browser, f"{agent.http}/edgeward/") as page:
        for address in (slow, fast):
            page.locator("#gateway-facts", has_text=address).wait_for()

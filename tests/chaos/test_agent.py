"""An agent and its gateway as processes, with a bad link between them: latency, pieces, resets, silence, SIGSTOP, SIGKILL.

Whatever the link does, every request is answered within its deadline by the device, private ones never pass the link, and when it
heals the cloud answers again. At the end every decision of the agent is decided again from its log.
"""

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hybrid.proxy import ChaosProxy, Link
from edge_agent.decision_log import replay
from runtime.bundle.bundle import Bundle
from runtime.client.aio import AsyncClient
from runtime.wire.values import InferenceResponse
from tests.programs import PATIENCE_S, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MARK = np.float32(0.7310423)
# Far more than an answer takes, far less than a blind wait for the gateway would.
DEADLINE_S = 5.0


async def test_whatever_the_link_does_the_device_answers_in_time(digits: Bundle, tmp_path: Path) -> None:
    samples = digits.samples()
    assert samples is not None
    image = samples.inputs["image"][:1]
    private = np.full_like(image, MARK)
    leaks: list[int] = []

    def look(chunk: bytes) -> None:
        if MARK.tobytes() * 4 in chunk:
            leaks.append(len(chunk))

    with ExitStack() as stack:
        run = ("run", "digits", "--grpc-port", "0", "--http-port", "0")
        cloud = await asyncio.to_thread(stack.enter_context, started(tmp_path, "gateway", *run))
        port = int(cloud.grpc.rpartition(":")[2])
        proxy = await ChaosProxy("127.0.0.1", port, look=look).__aenter__()
        log = tmp_path / "decisions"
        more = ("--gateway", f"127.0.0.1:{proxy.port}", "--policy", "cloud_first", "--decision-log", str(log))
        uds = tmp_path / "grpc.sock"
        agent = await asyncio.to_thread(stack.enter_context, started(tmp_path, "agent", *run, *more, "--uds", str(uds)))
        client = AsyncClient(f"unix:{uds}")

        async def ask() -> str:
            answer: InferenceResponse = await client.predict("digits", {"image": image}, timeout_s=DEADLINE_S)
            return str(answer.parameters["served_by"])

        async def until_served_by(who: str) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while await ask() != who:  # noqa: ASYNC110  (what a person would do)
                    await asyncio.sleep(0.02)

        async def still_private() -> None:
            answer = await client.predict("digits", {"image": private}, timeout_s=DEADLINE_S, privacy="local_only")
            assert answer.parameters["served_by"] == "edge"

        await until_served_by("cloud")
        for link in (Link(latency_s=0.1, jitter_s=0.05), Link(piece_bytes=7), Link(bytes_per_s=100_000)):
            proxy.link = link
            assert await ask() in ("cloud", "edge")
            await still_private()
        for bad in (Link(is_blackhole=True), Link(is_refusing=True)):
            proxy.link = bad
            if bad.is_refusing:
                proxy.reset()
            assert [await ask() for _ in range(3)] == ["edge"] * 3
            await still_private()
            proxy.link = Link()
            await until_served_by("cloud")
        os.kill(cloud.process.pid, signal.SIGSTOP)
        try:
            assert [await ask() for _ in range(3)] == ["edge"] * 3
            await still_private()
        finally:
            os.kill(cloud.process.pid, signal.SIGCONT)
        await until_served_by("cloud")
        cloud.process.kill()
        cloud.process.wait()
        assert [await ask() for _ in range(3)] == ["edge"] * 3
        again = ("gateway", "run", "digits", "--grpc-port", str(port), "--http-port", "0")
        await asyncio.to_thread(stack.enter_context, started(tmp_path, *again))
        await until_served_by("cloud")
        assert agent.status()["requests"]["failed"] == {}
        await client.close()
        await proxy.__aexit__()
    assert leaks == []
    count, differences = replay(log)
    assert count > 20
    assert differences == []

"""Runs the trace: one gateway, and for every contestant an agent and a link of its own, all at the same moments.

The contestants share the machine and the gateway, so what disturbs one disturbs all; a request of the trace goes to each of them at
the same planned time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.bar import counted
from benchmarks.hybrid.flaky import FlakyGateway
from benchmarks.hybrid.programs import Program, start
from benchmarks.hybrid.proxy import ChaosProxy
from benchmarks.hybrid.results import Contestant, Outcome
from benchmarks.hybrid.trace import STALL, Fault, Phase, Planned
from runtime.client.aio import AsyncClient
from runtime.errors import EdgewardError
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest, Parameter

WISHES: Final[Mapping[str, str]] = {
    "edge_only": "edge",
    "cloud_only": "cloud",
    "edge_first": "edge",
    "cloud_first": "cloud",
    "fastest": "edge",
}
# Private requests carry these pixels, which no other does; whoever looks at a link finds them there.
MARK: Final = np.float32(0.7310423).tobytes() * 8
# How often links and faults are brought into line with the trace.
TICK_S: Final = 0.02
WARM_UP: Final = 30


@dataclass
class _Side:
    """One contestant while it runs."""

    name: str
    proxy: ChaosProxy
    agent: Program
    client: AsyncClient
    drill: Path
    outcomes: list[Outcome | None]
    leaks: list[int] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    calls_before: int = 0


async def run(
    names: Sequence[str],
    trace: Sequence[Planned],
    phases: Sequence[Phase],
    phase_s: float,
    deadline_s: float,
    rows: Array,
    folder: Path,
) -> list[Contestant]:
    """What became of the trace at every contestant. `rows` [row, ...] are inputs of the model digits."""
    async with AsyncExitStack() as stack:
        gateway = await asyncio.to_thread(start, folder, "gateway", ["gateway", "run", "digits"])
        stack.callback(gateway.stop)
        flaky = await stack.enter_async_context(FlakyGateway(gateway.grpc))
        sides = [await _side(stack, name, gateway, folder, len(trace)) for name in names]
        for side in sides:
            await _warm_up(side, rows)
        began = time.monotonic() + 0.5
        conditions = asyncio.create_task(_conditions(sides, gateway, flaky.port, phases, phase_s, began))
        sending: list[asyncio.Task[None]] = []
        try:
            for index, planned in counted(list(enumerate(trace)), "request"):
                await asyncio.sleep(max(began + planned.at_s - time.monotonic(), 0.0))
                sending += [asyncio.create_task(_send(side, index, planned, began, deadline_s, rows)) for side in sides]
            await asyncio.gather(*sending)
            await conditions
        finally:
            conditions.cancel()
            gateway.process.send_signal(signal.SIGCONT)
        return [_contestant(side) for side in sides]


async def _side(stack: AsyncExitStack, name: str, gateway: Program, folder: Path, count: int) -> _Side:
    leaks: list[int] = []

    def look(chunk: bytes) -> None:
        if MARK in chunk:
            leaks.append(len(chunk))

    proxy = await stack.enter_async_context(ChaosProxy(*_target(gateway), look=look, seed=1))
    drill = folder / f"drill-{name}"
    arguments = ["agent", "run", "digits", "--policy", name, "--gateway", f"127.0.0.1:{proxy.port}"]
    agent = await asyncio.to_thread(start, folder, f"agent-{name}", [*arguments, "--drill-file", str(drill)])
    stack.callback(agent.stop)
    client = await stack.enter_async_context(AsyncClient(agent.grpc))
    return _Side(name, proxy, agent, client, drill, [None] * count, leaks)


async def _warm_up(side: _Side, rows: Array) -> None:
    for number in range(WARM_UP):
        await side.client.infer(InferenceRequest("digits", {"image": rows[number : number + 1]}), timeout_s=20.0)
    side.before = await asyncio.to_thread(side.agent.status)
    side.calls_before = side.proxy.calls


async def _conditions(
    sides: Sequence[_Side], gateway: Program, flaky_port: int, phases: Sequence[Phase], phase_s: float, began: float
) -> None:
    """Keeps links, drills and the gateway as the trace says, until it ends."""
    fault = Fault.NONE
    while True:
        since_s = time.monotonic() - began
        number = int(max(since_s, 0.0) / phase_s)
        now = phases[min(number, len(phases) - 1)].at(max(since_s, 0.0) - number * phase_s)
        wanted = now.fault if number < len(phases) else Fault.NONE
        for side in sides:
            if side.proxy.link != now.link:
                side.proxy.link = now.link
        if wanted is not fault:
            _change(sides, gateway, flaky_port, fault, wanted)
            fault = wanted
        if number >= len(phases):
            return
        await asyncio.sleep(TICK_S)


def _change(sides: Sequence[_Side], gateway: Program, flaky_port: int, before: Fault, after: Fault) -> None:
    if before is Fault.FROZEN_GATEWAY:
        os.kill(gateway.process.pid, signal.SIGCONT)
    if after is Fault.FROZEN_GATEWAY:
        os.kill(gateway.process.pid, signal.SIGSTOP)
    for side in sides:
        if Fault.FLAKY_GATEWAY in (before, after):
            # As if it were rolled out anew: connections end, the next ones reach the other.
            side.proxy.target = ("127.0.0.1", flaky_port) if after is Fault.FLAKY_GATEWAY else _target(gateway)
            side.proxy.reset()
        if after is Fault.STALLED_LOCAL:
            side.drill.write_text(STALL)
        else:
            side.drill.unlink(missing_ok=True)


async def _send(side: _Side, index: int, planned: Planned, began: float, deadline_s: float, rows: Array) -> None:
    due = began + planned.at_s
    row = rows[planned.row : planned.row + 1]
    parameters: dict[str, Parameter] = {}
    if planned.is_private:
        row = row.copy()
        row.reshape(-1)[:8] = np.frombuffer(MARK, np.float32)
        parameters["privacy"] = "local_only"
    request = InferenceRequest("digits", {"image": row}, parameters=parameters, deadline=due + deadline_s)
    try:
        response = await side.client.infer(request)
    except EdgewardError as error:
        side.outcomes[index] = Outcome(time.monotonic() - due, "", f"{type(error).__name__}: {error}")
        return
    served_by = str(response.parameters["served_by"])
    if planned.is_private and served_by != "edge":
        side.leaks.append(0)
    side.outcomes[index] = Outcome(time.monotonic() - due, served_by, str(response.parameters.get("reason", "")))


def _target(gateway: Program) -> tuple[str, int]:
    host, _, port = gateway.grpc.rpartition(":")
    return host, int(port)


def _contestant(side: _Side) -> Contestant:
    calls = side.proxy.calls - side.calls_before
    effort, before = side.agent.status()["effort"], side.before["effort"]
    return Contestant(
        name=side.name,
        wishes=WISHES[side.name],
        outcomes=[one for one in side.outcomes if one is not None],
        asked={arm: count - before["asked"][arm] for arm, count in effort["asked"].items()},
        hedges={what: count - before["hedges"][what] for what, count in effort["hedges"].items()},
        retries=effort["retries"] - before["retries"],
        retries_held_back=effort["retries_held_back"] - before["retries_held_back"],
        calls_on_link=calls,
        refused_at_once=effort["refused_at_once"] - before["refused_at_once"],
        leaks=len(side.leaks),
    )

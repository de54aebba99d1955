"""Memory of a server over very many requests: its resident size after each part of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.contestants import Contestant, port_of
from benchmarks.serving.h2load import drive_count
from benchmarks.serving.process import ServerProcess, free_ports
from benchmarks.serving.rounds import Progress

CONNECTIONS = 32
PARTS = 20
# What allocators, caches and thread pools take once: growth counts from here.
SETTLED_SHARE = 0.1
# The bar: more is a leak that an operator sees.
MOST_GROWTH = 0.05


@dataclass(frozen=True, slots=True)
class Endurance:
    """Resident bytes over requests answered; the first point is before any."""

    contestant: str
    wanted: int
    requests: Sequence[int]
    memory_bytes: Sequence[int]

    @property
    def growth(self) -> float:
        """From a tenth of the requests to the end, as a share."""
        at = next(i for i, done in enumerate(self.requests) if done >= SETTLED_SHARE * self.requests[-1])
        return self.memory_bytes[-1] / self.memory_bytes[at] - 1


def endure(contestant: Contestant, wanted: int, limit_s: float, logs: Path, progress: Progress) -> Endurance:
    """Asks `wanted` times, or as often as `limit_s` allows; the replies are all checked for their size."""
    ports = free_ports(2)
    port, end = port_of(contestant, ports), time.monotonic() + limit_s
    with ServerProcess(contestant.launch(*ports), logs / "endurance.log") as server:
        server.wait_until(lambda: contestant.exchange.check(port), contestant.start_timeout_s)
        reply_bytes = contestant.exchange.check(port)
        requests, memory = [0], [server.memory_bytes()]
        while requests[-1] < wanted and (time.monotonic() < end or len(requests) < 2):
            progress(f"{requests[-1]} of {wanted} requests: {contestant.name}", requests[-1] / wanted)
            part = min(max(wanted // PARTS, 1), wanted - requests[-1])
            drive_count(contestant.exchange, port, min(CONNECTIONS, part), part, reply_bytes)
            requests.append(requests[-1] + part)
            memory.append(server.memory_bytes())
    return Endurance(contestant.name, wanted, requests, memory)

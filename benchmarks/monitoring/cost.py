"""What monitoring at its default settings costs a server: processor seconds a request, p50 and requests a second, on against off.

Four servers take short turns in an order that is drawn each round; what a server uses between its turns counts as well, for the
recorder counts a little later than it is told.

on      the defaults
off     `EDGEWARD_MONITOR=false`: no statistics of inputs and outputs, no drift
again   the same as off: what this machine cannot tell from nothing
bare    off, and no histograms of latencies either: everything off that is not the protocol's own

Processor seconds tell most: two programs on two cores disturb each other's times by more than what is looked for here.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.monitoring.cost_ratios import Sample, ratio, to_dict, totals
from benchmarks.monitoring.cost_server import Server

CONNECTIONS: Final = 4
WARM_UP_ROUNDS: Final = 5
"""The first rows a recorder sees have it run the bundle's samples once more."""
SETTLE_S: Final = 1.0
"""After the last turn: the recorder counts every half second."""
EDGEWARD: Final = "edgeward"
BARE: Final = "benchmarks.monitoring.bare_server"
_OFF: Final[Mapping[str, str]] = {"EDGEWARD_MONITOR": "false"}
ARMS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "off": (EDGEWARD, _OFF),
    "again": (EDGEWARD, _OFF),
    "on": (EDGEWARD, {}),
    "bare": (BARE, _OFF),
}
PAIRS: Final = (("on", "off"), ("on", "bare"), ("again", "off"))
"""Which ratios are told: of the switch, of everything, and of nothing."""


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """All turns, and the ratios of `PAIRS` with their intervals over rounds."""
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="edgeward-monitoring-") as folder:
        try:
            # One home: all believe what the first measured, so that all answer by the same variant on the same engine.
            for arm, (module, variables) in ARMS.items():
                servers[arm] = Server(Path(folder), module, variables, CONNECTIONS)
            samples = _take_turns(servers, rounds, seconds)
        finally:
            for server in servers.values():
                server.close()
    return {"rounds": rounds, "seconds": seconds, "connections": CONNECTIONS, **told(samples)}


def told(samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures by arm, the ratios of `PAIRS`, and the turns they come from, as JSON."""
    return {
        "arms": totals(samples, list(ARMS)),
        "ratios": [{"arm": arm, "to": to, **to_dict(ratio(samples, arm, to))} for arm, to in PAIRS],
        "samples": [asdict(sample) for sample in samples],
    }


def _take_turns(servers: Mapping[str, Server], rounds: int, seconds: float) -> list[Sample]:
    chance, order = random.Random(0), list(servers)
    last: dict[str, tuple[Sample, float]] = {}
    """By arm its last turn, and what the process had used before it."""
    samples: list[Sample] = []

    def finish(arm: str) -> float:
        used_s = servers[arm].cpu_s()
        if arm in last:
            sample, before_s = last.pop(arm)
            samples.append(replace(sample, cpu_s=used_s - before_s))
        return used_s

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for number in range(-WARM_UP_ROUNDS, rounds):
            chance.shuffle(order)
            for arm in order:
                used_s = finish(arm)
                turn = servers[arm].ask(seconds, pool)
                last[arm] = Sample(number, arm, turn.requests, turn.wall_s, turn.p50_ms, 0.0), used_s
    time.sleep(SETTLE_S)
    for arm in order:
        finish(arm)
    return [sample for sample in samples if sample.round >= 0]

"""What statistics at their default settings cost a server, told by one process that has them on and off in turn.

    python -m benchmarks.monitoring --only cost

on      the defaults
off     no request is told to the recorder
again   off once more: what this machine cannot tell from nothing

The recorder counts up to two seconds later than it is told, in whichever turn is then, so its thread's processor time is measured
apart and that of a round is charged to the turn that is on: all of it to its processor time, and to its requests a second as if it
had stopped the server meanwhile. A turn begins with a share of requests that follows only half a second later, so more rows a
second are counted than in a calm hour.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.monitoring.cost_ratios import Sample, ratio, to_dict, totals
from benchmarks.monitoring.cost_server import Server
from benchmarks.monitoring.switched_server import THREAD

MODULE: Final = "benchmarks.monitoring.switched_server"
CONNECTIONS: Final = 4
WARM_UP_ROUNDS: Final = 5
ARMS: Final = ("off", "again", "on")
PAIRS: Final = (("on", "off"), ("again", "off"))


def why_not() -> str | None:
    """Why it cannot be measured here; None: it can."""
    return (
        None if sys.platform == "linux" else "missing: only Linux tells the processor time of another process's thread"
    )


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """All turns, and the ratios of `PAIRS` with their intervals over rounds."""
    with tempfile.TemporaryDirectory(prefix="edgeward-monitoring-") as folder:
        server = Server(Path(folder), MODULE, {}, CONNECTIONS)
        try:
            samples = _take_turns(server, rounds, seconds)
        finally:
            server.close()
    return {"rounds": rounds, "seconds": seconds, "connections": CONNECTIONS, **told(samples)}


def told(samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures by arm, the ratios of `PAIRS`, and the turns they come from, as JSON."""
    return {
        "arms": totals(samples, ARMS),
        "ratios": [{"arm": arm, "to": to, **to_dict(ratio(samples, arm, to))} for arm, to in PAIRS],
        "samples": [asdict(sample) for sample in samples],
    }


def charged(turn: Sample, thread_s: float) -> Sample:
    """A turn that is on, with what the recorder's thread used for it."""
    return replace(turn, cpu_s=turn.cpu_s + thread_s, wall_s=turn.wall_s + thread_s)


def _take_turns(server: Server, rounds: int, seconds: float) -> list[Sample]:
    chance, order, samples = random.Random(0), list(ARMS), list[Sample]()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for number in range(-WARM_UP_ROUNDS, rounds):
            chance.shuffle(order)
            round_began_s, turns = server.thread_s(THREAD), dict[str, Sample]()
            for arm in order:
                server.signal(signal.SIGUSR1 if arm == "on" else signal.SIGUSR2)
                thread_s, cpu_s = server.thread_s(THREAD), server.cpu_s()
                turn = server.ask(seconds, pool)
                own_s = server.cpu_s() - cpu_s - (server.thread_s(THREAD) - thread_s)
                turns[arm] = Sample(number, arm, turn.requests, turn.wall_s, turn.p50_ms, own_s)
            turns["on"] = charged(turns["on"], server.thread_s(THREAD) - round_began_s)
            samples += turns.values()
    return [sample for sample in samples if sample.round >= 0]

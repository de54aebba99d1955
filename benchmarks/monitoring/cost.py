"""What monitoring at its default settings costs a server: an interleaved pair of servers, one with it and one without."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.environment import ROOT
from benchmarks.serving.exchange import Row
from runtime.client import connect
from runtime.wire.values import InferenceRequest

PATIENCE_S = 20.0


def measure(rounds: int, seconds: float, connections: int = 4) -> dict[str, Any]:
    """Medians over rounds of p50 and requests a second, on and off, and their ratios round by round.

    The load comes from threads of this process and shares the cores; the two servers answer in turn, the other one idle.
    """
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgeward-monitoring-") as folder:
        # One home: the second believes what the first measured, so that both answer by the same variant on the same engine.
        servers = {"on": _Server(Path(folder), "true"), "off": _Server(Path(folder), "false")}
        try:
            for number in range(-1, rounds):
                order = ("on", "off") if number % 2 else ("off", "on")
                for which in order:
                    per_s, p50_ms = _load(servers[which].address, seconds, connections)
                    if number >= 0:  # the first is the warm-up
                        samples.append({"round": number, "monitor": which, "per_s": per_s, "p50_ms": p50_ms})
        finally:
            for server in servers.values():
                server.close()
    return {"rounds": rounds, "seconds": seconds, "connections": connections, "samples": samples, **_compare(samples)}


def _compare(samples: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for figure in ("per_s", "p50_ms"):
        on = [s[figure] for s in samples if s["monitor"] == "on"]
        off = [s[figure] for s in samples if s["monitor"] == "off"]
        ratios = [a / b for a, b in zip(on, off, strict=True)]
        told[figure] = {
            "on": median(on),
            "off": median(off),
            "ratio": median(ratios),
            "low": min(ratios),
            "high": max(ratios),
        }
    return told


class _Server:
    def __init__(self, home: Path, monitor: str) -> None:
        import os

        own = {"EDGEWARD_HOME": str(home), "EDGEWARD_MONITOR": monitor, "EDGEWARD_RECALIBRATE_EVERY_S": "0"}
        variables = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable,
            "-m",
            "edgeward",
            "serve",
            "digits",
            "--grpc-port",
            "0",
            "--http-port",
            "0",
            "--json",
        ]
        self._process = subprocess.Popen(
            command, env=variables, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.address = str(json.loads(self._process.stdout.readline())["grpc"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


def _load(address: str, seconds: float, connections: int) -> tuple[float, float]:
    from concurrent.futures import ThreadPoolExecutor

    request = InferenceRequest("digits", {"image": Row.of_digits().image})

    def one(_: int) -> list[float]:
        took: list[float] = []
        with connect(address) as client:
            end = time.perf_counter() + seconds
            while (now := time.perf_counter()) < end:
                client.infer(request)
                took.append(time.perf_counter() - now)
        return took

    with ThreadPoolExecutor(connections) as pool:
        times = [took for part in pool.map(one, range(connections)) for took in part]
    return len(times) / seconds, float(np.median(times)) * 1e3

"""One arm of the benchmark of costs: a server process, the clients that ask it, and what a turn of requests took of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environment import ROOT
from benchmarks.serving.exchange import Row
from benchmarks.serving.process import cpu_s
from runtime.client import connect
from runtime.client.sync import Client
from runtime.wire.values import InferenceRequest

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Some seconds of requests, one after the other on every connection."""

    requests: int
    wall_s: float
    p50_ms: float


class Server:
    """`module serve digits` in a process of its own, and `connections` open connections to it."""

    def __init__(self, home: Path, module: str, variables: Mapping[str, str], connections: int) -> None:
        own = {"EDGEWARD_HOME": str(home), "EDGEWARD_RECALIBRATE_EVERY_S": "0", "PYTHONPATH": str(ROOT), **variables}
        command = [sys.executable, "-m", module, "serve", "digits", "--grpc-port", "0", "--http-port", "0", "--json"]
        self._process = subprocess.Popen(
            command, env={**os.environ, **own}, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        address = str(json.loads(self._process.stdout.readline())["grpc"])
        self._clients = [connect(address) for _ in range(connections)]
        self._request = InferenceRequest("digits", {"image": Row.of_digits().image})

    def cpu_s(self) -> float:
        """What the process has used of processors since it began."""
        return cpu_s(self._process.pid)

    def thread_s(self, name: str) -> float:
        """What the one thread that is called so, as Linux knows it, has used of processors since it began."""
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            if (task / "comm").read_text(encoding="ascii").strip() == name:
                return int((task / "schedstat").read_text(encoding="ascii").split()[0]) * 1e-9
        raise LookupError(f"process {self._process.pid} has no thread named {name!r}")

    def signal(self, number: int) -> None:
        """Sends the process a signal."""
        self._process.send_signal(number)

    def ask(self, seconds: float, pool: ThreadPoolExecutor) -> Turn:
        """Every connection asks for so long."""
        began = time.perf_counter()
        took = [
            one for part in pool.map(lambda client: self._ask(client, began + seconds), self._clients) for one in part
        ]
        return Turn(len(took), time.perf_counter() - began, float(np.median(took)) * 1e3)

    def close(self) -> None:
        """Closes the connections and ends the process."""
        for client in self._clients:
            client.close()
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, client: Client, end: float) -> list[float]:
        took: list[float] = []
        while (now := time.perf_counter()) < end:
            client.infer(self._request)
            took.append(time.perf_counter() - now)
        return took

"""How long an agent takes from its start to its first local answer, and what it holds in memory when nobody asks.

    python -m benchmarks.agent_start --runs 5 --out benchmarks/results/agent_start.json

`edgeward agent run digits` with a warm cache (its calibration and Python's compiled files are there), asked over gRPC by a client
that waits for its port. Bars: the first answer within 1.5 s of the start, less than 200 MB resident. What an idle agent takes of a
core is told of its first seconds, in which it loads what it had put off until then, and of the time after it has settled.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.bar import counted
from benchmarks.environment import ROOT, now_utc, read_environment
from runtime.client import connect

SCHEMA_VERSION = 2
BAR_S = 1.5
BAR_MB = 200.0
# In which the start's leftovers are done: charts' database, statistics of the first rows.
FIRST_S = 5.0
# Steady: two looks of this length differ by at most `STEADY_SHARE` of a core. CPU time is told in hundredths of a second.
LOOK_S = 10.0
STEADY_SHARE = 0.002
PATIENCE_S = 90.0


def one_start(home: Path, model: str) -> dict[str, float]:
    """Seconds and megabytes of one agent."""
    command = [
        sys.executable,
        "-m",
        "edgeward",
        "agent",
        "run",
        model,
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--json",
    ]
    environment = {**os.environ, "EDGEWARD_HOME": str(home), "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            listening_s = time.perf_counter() - started
            with connect(told["grpc"]) as client:
                spec = client.model(model).inputs[0]
                row = np.zeros([max(size, 1) for size in spec.shape], spec.dtype)
                reply = client.predict(model, {spec.name: row})
                answered_s = time.perf_counter() - started
            assert reply.parameters["served_by"] == "edge"
            watched = psutil.Process(process.pid)
            cpu_s = _cpu_s(watched)
            first_share = _share(watched, FIRST_S)
            steady_share, settled_s = _steady(watched)
            return {
                "listening_s": listening_s,
                "answered_s": answered_s,
                "cpu_s": cpu_s,
                "first_cpu_share": first_share,
                "settled_s": FIRST_S + settled_s,
                "idle_cpu_share": steady_share,
                "idle_rss_mb": watched.memory_info().rss / 1e6,
            }
        finally:
            process.terminate()
            process.wait(30)


def _cpu_s(watched: psutil.Process) -> float:
    used = watched.cpu_times()
    return float(used.user + used.system)


def _share(watched: psutil.Process, seconds: float) -> float:
    """Of a core, in the next `seconds`."""
    before, since = _cpu_s(watched), time.perf_counter()
    time.sleep(seconds)
    return (_cpu_s(watched) - before) / (time.perf_counter() - since)


def _steady(watched: psutil.Process) -> tuple[float, float]:
    """The share of a core once it changes no more, and the seconds that took; `TimeoutError` where it never does."""
    began = time.perf_counter()
    before = _share(watched, LOOK_S)
    while time.perf_counter() - began < PATIENCE_S:
        share = _share(watched, LOOK_S)
        if abs(share - before) <= STEADY_SHARE:
            return share, time.perf_counter() - began
        before = share
    raise TimeoutError(
        f"{PATIENCE_S:.0f} s after its start the idle agent's share of a core still changes: {before:.2%} at last"
    )


def measure(runs: int, model: str, home: Path | None) -> dict[str, Any]:
    """Medians over runs; the first start, which calibrates in a `home` that is new, does not count."""
    with tempfile.TemporaryDirectory(prefix="agent-start-") as folder:
        chosen = home or Path(folder)
        first = one_start(chosen, model)
        samples = [one_start(chosen, model) for _ in counted(range(runs), "start")]
    return {
        "model": model,
        "first_start_s": first["answered_s"],
        **{name: median(sample[name] for sample in samples) for name in samples[0]},
        "bar_s": BAR_S,
        "bar_mb": BAR_MB,
        "samples": samples,
    }


def main() -> int:
    """Measures, writes and prints; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent_start", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--home", type=Path, help="EDGEWARD_HOME with a calibration; without it one is made")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    environment = read_environment()
    result = measure(given.runs, given.model, given.home)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        said = {"schema_version": SCHEMA_VERSION, "when": now_utc(), **result, "environment": environment}
        given.out.write_text(json.dumps(said, indent=2) + "\n")
    print(
        f"first local answer {result['answered_s']:.2f} s after the start (bar {BAR_S} s; {result['cpu_s']:.2f} s of CPU, load "
        f"before {environment['load_before'][0]}), idle {result['idle_rss_mb']:.0f} MB (bar {BAR_MB:.0f} MB), "
        f"{result['first_cpu_share']:.1%} of a core in the first {FIRST_S:.0f} s, {result['idle_cpu_share']:.1%} once steady "
        f"(after {result['settled_s']:.0f} s)"
    )
    return 0 if result["answered_s"] < BAR_S and result["idle_rss_mb"] < BAR_MB else 1


if __name__ == "__main__":
    sys.exit(main())

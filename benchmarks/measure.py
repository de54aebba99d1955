"""One measurement: a generator process started, watched, and its samples kept with a header that says how they came about."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.energy import EnergyMeter
from benchmarks.environment import ROOT, now_utc
from benchmarks.generator import Plan
from benchmarks.process import ServerProcesses, Usage
from benchmarks.samples import OK, Recording, Samples
from benchmarks.scenarios import Scenario
from benchmarks.settings import ANYONE, Access, Setting, TargetName
from benchmarks.validity import Effort, doubts, invalid_reason
from runtime import errors
from runtime.errors import EdgewardError, ExecutionError

Progress = Callable[[float], None]
"""Called with the share done, 0 to 1."""

# `-P` and the path by hand: `-m` would take a folder called benchmarks from wherever the person stands.
_BOOT = "import sys; sys.path.insert(0, {root!r}); from benchmarks.generator import main; sys.exit(main())"
GENERATOR_KEYS = ("cpu_s", "wall_s", "heartbeat_ms", "machine_share", "peak_memory_bytes")
# After "stop": requests under way end within their timeout; this is for the rest.
_GRACE_S = 10.0


@dataclass
class _Watched:
    """What was seen of the server's processes and of the machine's energy while the generator measured."""

    energy: EnergyMeter
    before: Usage | None = None
    after: Usage | None = None
    peak_bytes: int | None = None
    used: dict[str, Any] = field(default_factory=dict)
    """See `EnergyMeter.header`."""

    def look(self, processes: ServerProcesses) -> None:
        usage = processes.usage()
        if usage is not None:
            self.before = self.before or usage
            self.after = usage
            self.peak_bytes = max(self.peak_bytes or 0, usage.memory_bytes)


def measure(
    setting: Setting,
    scenario: Scenario,
    environment: Mapping[str, Any],
    progress: Progress | None = None,
    access: Access = ANYONE,
) -> Recording:
    """The recording of `scenario` on `setting`, made in a fresh process.

    Errors of the target (unreachable, unknown model, ...) are raised as the classes they have there. On Ctrl-C what was
    measured so far is returned, its header saying `was_stopped`.
    """
    started = now_utc()
    processes = ServerProcesses.of(TargetName.parse(setting.target))
    with tempfile.TemporaryDirectory(prefix="edgeward-bench-") as folder:
        output = Path(folder) / "samples.npz"
        report, watched = _run_generator(Plan(setting, scenario, output, access), processes, progress or _ignore)
        with np.load(output, allow_pickle=False) as arrays:
            samples = Samples(**{name: np.asarray(arrays[name]) for name in arrays.files})
    return Recording(header_of(setting, scenario, environment, report, watched, samples, started), samples)


def header_of(
    setting: Setting,
    scenario: Scenario,
    environment: Mapping[str, Any],
    report: Mapping[str, Any],
    watched: _Watched,
    samples: Samples,
    started: str,
) -> dict[str, Any]:
    """Everything a reader needs beside the samples; the schema of `header.json`, version 1."""
    is_inproc = TargetName.parse(setting.target).is_inproc
    effort = Effort.of(report, is_inproc=is_inproc)
    is_ok = samples.status == report["statuses"].index(OK)
    cpu_s: float | None = report["cpu_s"] if is_inproc else None
    peak_bytes: int | None = report["peak_memory_bytes"] if is_inproc else watched.peak_bytes
    if watched.before is not None and watched.after is not None:
        cpu_s = watched.after.cpu_s - watched.before.cpu_s
    return {
        "setting": setting.to_dict(),
        "scenario": scenario.to_dict(),
        "scenario_text": str(scenario),
        "started": started,
        "seed": scenario.seed,
        "warm_up_s": scenario.warm_up_s,
        "target": report["description"],
        "inputs": "random rows" if report["is_input_random"] else "the bundle's samples",
        "statuses": report["statuses"],
        "error_texts": report["error_texts"],
        "origins": report["origins"],
        "offered_qps": report["offered_qps"],
        "was_stopped": report["was_stopped"],
        "has_fallen_behind": report["has_fallen_behind"],
        "invalid_reason": invalid_reason(samples, is_ok, scenario, effort),
        "doubts": doubts(samples, is_ok, scenario, effort),
        "cpu_s_per_1000": None if cpu_s is None or not len(samples) else cpu_s / len(samples) * 1000,
        "peak_memory_bytes": peak_bytes,
        "energy": watched.used,
        "generator": {key: report[key] for key in GENERATOR_KEYS},
        "environment": environment,
    }


def _run_generator(plan: Plan, processes: ServerProcesses, progress: Progress) -> tuple[Mapping[str, Any], _Watched]:
    command = [sys.executable, "-P", "-c", _BOOT.format(root=str(ROOT))]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert child.stdin is not None
        assert child.stdout is not None
        watched = _Watched(EnergyMeter.of_this_machine())
        try:
            child.stdin.write(plan.to_json() + "\n")
            child.stdin.flush()
            try:
                report = _follow(child.stdout, processes, watched, progress)
            except KeyboardInterrupt:
                child.stdin.close()  # "stop"
                report = _follow(child.stdout, processes, watched, progress)
            if report is None:
                child.wait(_GRACE_S)
                raise ExecutionError(f"the load generator ended with exit code {child.returncode}: {_tail(log)}")
        finally:
            _end(child, plan.scenario.timeout_s + _GRACE_S)
    return report, watched


def _follow(
    events: IO[str], processes: ServerProcesses, watched: _Watched, progress: Progress
) -> Mapping[str, Any] | None:
    """The fields of `done`; None when the generator ended without it."""
    for line in events:
        event: dict[str, Any] = json.loads(line)
        match event.pop("event"):
            case "failed":
                raise _error(event["error"], event["text"])
            case "done":
                watched.look(processes)
                watched.used = watched.energy.header(event["requests"])
                return event
            case "measuring":
                watched.look(processes)
                watched.energy.start()
            case _:
                watched.look(processes)
                progress(event["share"])
    return None


def _error(name: str, text: str) -> EdgewardError:
    cls = getattr(errors, name, EdgewardError)
    error: EdgewardError = cls(text)
    return error


def _end(child: subprocess.Popen[str], timeout_s: float) -> None:
    """Lets the generator end by itself; one that does not is killed."""
    if child.stdin is not None and not child.stdin.closed:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _tail(log: IO[str]) -> str:
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it said nothing"


def _ignore(share: float) -> None:
    pass

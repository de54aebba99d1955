"""The load generator, in a process of its own: a plan in (JSON on stdin), samples out (npz), events on the way (stdout).

    python -m benchmarks.generator < plan.json

The first line of stdin is the plan; the end of stdin means "stop now and keep what was measured", so a generator never
outlives the one who started it. Every line of stdout is an event: `measuring`, `progress`, then `done` or `failed`.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.heartbeat import Heartbeat
from benchmarks.load import Call, Infer, Load, LoadGenerator
from benchmarks.process import own_peak_bytes
from benchmarks.samples import columns_of
from benchmarks.scenarios import Kind, Scenario
from benchmarks.settings import ANYONE, Access, Setting
from benchmarks.target import Target
from benchmarks.targets import make_target, rows_of
from runtime.errors import CallerError, EdgewardError
from runtime.selection.rows import Rows

PROGRESS_INTERVAL_S = 0.25
# How many different requests are made ready; more than a CPU cache holds, few enough to be made in no time.
MAX_CALLS = 512
# A thread that waits for the interpreter gets it after this long; the default of 5 ms would be a lag of 5 ms.
SWITCH_INTERVAL_S = 0.0002


@dataclass(frozen=True, slots=True)
class Plan:
    """What one generator process does."""

    setting: Setting
    scenario: Scenario
    output: Path
    """Where the samples go."""
    access: Access = ANYONE

    def to_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "setting": self.setting.to_dict(),
                "scenario": self.scenario.to_dict(),
                "output": str(self.output),
                "access": self.access.to_dict(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What `to_json` gave."""
        fields = json.loads(text)
        setting, scenario = Setting.from_dict(fields["setting"]), Scenario.from_dict(fields["scenario"])
        return cls(setting, scenario, Path(fields["output"]), Access.from_dict(fields["access"]))


def main() -> int:
    """Runs the plan on stdin; exit code 0 when samples were written, 1 when not."""
    # The one who started it hears Ctrl-C too, and says stop by closing stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _run(Plan.from_json(sys.stdin.readline()))
    except EdgewardError as error:
        _say("failed", error=type(error).__name__, text=str(error))
        return 1
    return 0


def _run(plan: Plan) -> None:
    should_stop = threading.Event()
    threading.Thread(target=_watch_stdin, args=(should_stop,), daemon=True).start()
    target = make_target(plan.setting, plan.scenario.timeout_s, plan.access)
    try:
        target.open()
        description = target.describe()
        rows = rows_of(plan.setting, description.inputs, plan.scenario.seed)
        calls = calls_of(rows, plan.scenario)
        warm_up(target, calls, plan.scenario)
        load, effort = drive(target.infer, calls, plan.scenario, should_stop)
    finally:
        target.close()
    columns: dict[str, Any] = dict(columns_of(load.samples))
    np.savez(plan.output, **columns)
    _say(
        "done",
        description=asdict(description) | {"inputs": [f"{spec.name} {spec}" for spec in description.inputs]},
        is_input_random=rows.is_random,
        requests=len(load.samples),
        statuses=load.statuses,
        error_texts=load.error_texts,
        origins=[asdict(origin) for origin in load.origins],
        offered_qps=load.offered_qps,
        was_stopped=should_stop.is_set(),
        has_fallen_behind=load.has_fallen_behind,
        **effort,
    )


def calls_of(rows: Rows, scenario: Scenario) -> list[Call]:
    """The requests to choose from, in the order in which they are sent: rows shuffled by the seed, cut into batches."""
    order = np.random.default_rng(scenario.seed).permutation(len(rows))
    if not rows.is_batched:
        singles = [inputs for _, inputs in rows.chunks(1)]
        return [(singles[number], 1) for number in order[:MAX_CALLS]]
    size = scenario.rows
    every = rows.take(len(rows))
    batched = {spec.name for spec in rows.specs if spec.is_batched}
    # `resize` repeats rows where there are fewer than a batch.
    batches = np.resize(order, (min(max(len(order) // size, 1), MAX_CALLS), size))
    return [
        (
            {name: np.ascontiguousarray(value[batch]) if name in batched else value for name, value in every.items()},
            size,
        )
        for batch in batches
    ]


def warm_up(target: Target, calls: list[Call], scenario: Scenario) -> None:
    """Asks one at a time for a while, then once on every connection. The caller's own mistakes show here, as errors."""
    if scenario.warm_up_s <= 0:
        return
    target_infer = target.infer
    try:
        target_infer(calls[0][0])
    except CallerError:
        raise
    except EdgewardError:
        pass  # counted where it happens again, in the measurement
    one = Scenario(Kind.SINGLE, scenario.rows, duration_s=scenario.warm_up_s, timeout_s=scenario.timeout_s)
    every = replace(one, in_flight=scenario.in_flight, requests=scenario.in_flight, duration_s=scenario.timeout_s)
    for step in (one, every):
        loader = LoadGenerator(target_infer, calls, step)
        loader.start()
        loader.wait(step.duration_s + step.timeout_s)
        loader.result()


def drive(
    infer: Infer, calls: list[Call], scenario: Scenario, should_stop: threading.Event
) -> tuple[Load, Mapping[str, Any]]:
    """The samples of one scenario, and what the process and the machine spent on them."""
    loader = LoadGenerator(infer, calls, scenario)
    before_switching = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.disable()  # as timeit does: a collection in the generator is no latency of the target
    _say("measuring")
    psutil.cpu_percent()
    heartbeat = Heartbeat()
    heartbeat.start()
    cpu_s, started = time.process_time(), time.monotonic()
    loader.start()
    while not loader.wait(PROGRESS_INTERVAL_S):
        _say("progress", share=loader.progress)
        if should_stop.is_set():
            loader.stop()
    wall_s = time.monotonic() - started
    heartbeat_ms = heartbeat.stop()
    effort = {
        "heartbeat_ms": heartbeat_ms,
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": wall_s,
        "machine_share": psutil.cpu_percent() / 100,
        "peak_memory_bytes": own_peak_bytes(),
    }
    gc.enable()
    sys.setswitchinterval(before_switching)
    return loader.result(), effort


def _watch_stdin(should_stop: threading.Event) -> None:
    while sys.stdin.readline():
        pass
    should_stop.set()


def _say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


if __name__ == "__main__":
    sys.exit(main())

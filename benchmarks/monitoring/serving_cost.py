"""What the metrics cost on the serving path: one request at a time through the data plane, on against off, interleaved.

    python -m benchmarks.monitoring.serving_cost --output cost.json

On: histograms of latency by stage, requests in flight, errors by class. Off: the totals of ModelStatistics alone, which the
protocol asks for. Off runs twice, so that what the machine cannot tell from nothing stands beside; the order is drawn each time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.environment import now_utc, read_environment
from benchmarks.significance import Interval, bootstrap_difference, stretches
from runtime import config
from runtime.engine.engine import Engine
from runtime.selection.rows import rows_for
from runtime.serving.controls import Controls
from runtime.serving.local_service import LocalService
from runtime.serving.statistics import Latencies
from runtime.wire.values import InferenceRequest, InferenceResponse

BAR_SHARE = 0.03
DEFAULT_PAIRS = 10_000
WARM_UP_PAIRS = 500
STRETCHES = 20

Infer = Callable[[InferenceRequest], Awaitable[InferenceResponse]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians in microseconds of one request through the data plane."""

    candidate: str
    pairs: int
    off_us: float
    on_us: float
    difference_us: Interval
    nothing_us: Interval
    """The same between off and off: what this machine cannot tell from nothing."""

    @property
    def share(self) -> float:
        """Of the median without."""
        return self.difference_us.value / self.off_us

    def __str__(self) -> str:
        difference, nothing = self.difference_us, self.nothing_us
        return (
            f"digits, one row, {self.candidate}; {self.pairs:,} interleaved pairs\n"
            f"  metrics off  {self.off_us:8.2f} µs (median)\n"
            f"  metrics on   {self.on_us:8.2f} µs (median)\n"
            f"  difference   {difference.value:8.2f} µs, 95 % interval [{difference.low:.2f}, {difference.high:.2f}]; "
            f"{self.share:.2%} of the median; bar {BAR_SHARE:.0%}: {'held' if self.share <= BAR_SHARE else 'MISSED'}\n"
            f"  off against off {nothing.value:5.2f} µs, 95 % interval [{nothing.low:.2f}, {nothing.high:.2f}]"
        )


async def measure(pairs: int) -> Cost:
    """Measures the pair on digits."""
    engine = Engine()
    try:
        engine.load("digits")
        service = LocalService(engine, name="cost", version=version("edgeward"))
        ((model, scheduler),) = service.schedulers()
        _, inputs = next(iter(rows_for(model.bundle, model.inputs, seed=1).chunks(1)))
        request = InferenceRequest("digits", inputs)
        latencies = scheduler.statistics.latencies
        assert latencies is not None
        controls = Controls.under(config.home(), 1 << 20, "a benchmark")
        around = controls.around(service.infer)

        async def watched(request: InferenceRequest) -> InferenceResponse:
            with controls.load.answering():
                return await around(request)

        async def one(infer: Infer, kept: Latencies | None) -> int:
            scheduler.statistics.latencies = kept
            started = time.perf_counter_ns()
            await infer(request)
            return time.perf_counter_ns() - started

        sides = [(0, service.infer, None), (1, watched, latencies), (2, service.infer, None)]
        chance = random.Random(0)
        times = np.empty((3, pairs), dtype=np.int64)
        gc.collect()
        gc.disable()
        for pair in range(-WARM_UP_PAIRS, pairs):
            chance.shuffle(sides)
            for side, infer, kept in sides:
                took_ns = await one(infer, kept)
                if pair >= 0:
                    times[side, pair] = took_ns
        gc.enable()
        off_us, on_us, again_us = times / 1000
        parts = [stretches(each, STRETCHES) for each in (off_us, on_us, again_us)]
        difference = bootstrap_difference(parts[0], parts[1], 0.5, is_paired=True)
        nothing = bootstrap_difference(parts[0], parts[2], 0.5, is_paired=True)
        medians = float(np.median(off_us)), float(np.median(on_us))
        return Cost(str(model.candidate), pairs, *medians, difference, nothing)
    finally:
        engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and saves JSON where --output says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring.serving_cost")
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help=f"requests of each ({DEFAULT_PAIRS})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="save the result as JSON")
    chosen = parser.parse_args(arguments)
    environment = read_environment()
    cost = asyncio.run(measure(chosen.pairs))
    print(cost)
    if chosen.output is not None:
        result = asdict(cost) | {"bar_share": BAR_SHARE, "started": now_utc(), "environment": environment}
        chosen.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

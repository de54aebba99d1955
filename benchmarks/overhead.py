"""What `Model.predict` costs beside a bare `session.run` of the same variant: an interleaved pair in one run.

    python -m benchmarks.overhead --output overhead.json

The bar is 15 µs (median) on one row of digits. Both sides run the same session on the same rows in turn; which of the two goes
first alternates, so that neither has the warmer cache.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import now_utc, read_environment
from benchmarks.significance import Interval, bootstrap_difference, stretches
from benchmarks.statistics import Values
from runtime.backends.onnxruntime_session import OnnxRuntimeSession
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.errors import WrongUseError
from runtime.selection.rows import rows_for
from runtime.selection.settings import SelectionSettings
from runtime.tensors import Array

BACKEND = "onnxruntime-cpu"
BAR_US = 15.0
DEFAULT_PAIRS = 10_000
WARM_UP_PAIRS = 300
STRETCHES = 20
MANY_ROWS = 64

Predict = Callable[[dict[str, Array]], object]


@dataclass(frozen=True, slots=True)
class Overhead:
    """Medians in microseconds, and what one costs more than the other."""

    model: str
    candidate: str
    pairs: int
    bare_us: float
    predict_us: float
    difference_us: Interval

    @property
    def is_within_bar(self) -> bool:
        """Whether the median difference is at most `BAR_US`."""
        return self.difference_us.value <= BAR_US

    def __str__(self) -> str:
        difference = self.difference_us
        return (
            f"{self.model}, one row, {self.candidate}; {self.pairs:,} interleaved pairs\n"
            f"  bare session.run   {self.bare_us:8.2f} µs (median)\n"
            f"  Model.predict      {self.predict_us:8.2f} µs (median)\n"
            f"  difference         {difference.value:8.2f} µs, 95 % interval [{difference.low:.2f}, {difference.high:.2f}]; "
            f"bar {BAR_US:g} µs: {'held' if self.is_within_bar else 'MISSED'}"
        )


def measure_overhead(source: str = "digits", pairs: int = DEFAULT_PAIRS, variant: str | None = None) -> Overhead:
    """Measures the pair; `WrongUseError` when the model has no variant whose own tensors are the canonical ones."""
    only = SelectionSettings(backends=(BACKEND,), variants=(variant,) if variant else ())
    with load(source, EngineSettings(selection=only)) as model:
        bare = bare_session(model)
        rows = rows_for(model.bundle, model.inputs, seed=1)
        calls = [inputs for _, inputs in zip(range(MANY_ROWS), (chunk for _, chunk in rows.chunks(1)), strict=False)]
        interleave(bare, model.predict, calls, WARM_UP_PAIRS)
        bare_us, predict_us = interleave(bare, model.predict, calls, pairs)
        difference = bootstrap_difference(
            stretches(bare_us, STRETCHES), stretches(predict_us, STRETCHES), 0.5, is_paired=True
        )
        medians = float(np.median(bare_us)), float(np.median(predict_us))
        return Overhead(model.name, str(model.candidate), pairs, *medians, difference)


def bare_session(model: Model) -> Predict:
    """`session.run` of ONNX Runtime on the very session that answers for `model`, called as anybody would.

    Not a second session: the waiting workers of one would take the cores of the other, and its copy of the weights the caches.
    """
    opened = model.opened
    if not opened.is_same:
        raise WrongUseError(
            f"variant {model.candidate.variant.name!r} has tensors of its own; choose another with --variant"
        )
    assert isinstance(opened.session, OnnxRuntimeSession), "only this backend was let in"
    run = opened.session.native.run
    names = [spec.name for spec in model.outputs]
    return lambda inputs: run(names, inputs)


def interleave(a: Predict, b: Predict, calls: Sequence[dict[str, Array]], pairs: int) -> tuple[Values, Values]:
    """Microseconds of each call of A and of B, on the same inputs in turn, the first of a pair alternating."""
    times = np.empty((2, pairs), dtype=np.int64)
    clock = time.perf_counter_ns
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for pair in range(pairs):
            inputs = calls[pair % len(calls)]
            order = ((0, a), (1, b)) if pair % 2 == 0 else ((1, b), (0, a))
            for side, call in order:
                started = clock()
                call(inputs)
                times[side, pair] = clock() - started
    finally:
        if was_enabled:
            gc.enable()
    return times[0] / 1000, times[1] / 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and saves JSON where --output says; exit code 0 also when the bar is missed: it is information."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="digits", help="bundle or .onnx file (digits)")
    parser.add_argument("--variant", help="such as fp32.onnx (the one that is chosen)")
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help=f"calls of each ({DEFAULT_PAIRS})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="save the result as JSON")
    chosen = parser.parse_args(arguments)
    environment = read_environment()
    overhead = measure_overhead(chosen.model, chosen.pairs, chosen.variant)
    print(overhead)
    print(
        f"  on {environment['cpu'] or 'an unknown processor'}, {environment['hardware_text']['cores allowed']}, "
        f"kernel {environment['kernel']}, Python {environment['python']}, onnxruntime {environment['libraries']['onnxruntime']}"
    )
    if chosen.output is not None:
        result: dict[str, Any] = asdict(overhead) | {"bar_us": BAR_US, "started": now_utc(), "environment": environment}
        chosen.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Gain and start of one model, in a process of its own: `python -m benchmarks.selection.pair SOURCE HOME PAIRS TURN_S`.

The gain is of the chosen variant, and of `Model.predict` on it, over `onnxruntime.InferenceSession(file)` as a newcomer writes
it, on one row; the file is the bundle's first as ONNX: the source, or the program's export in fp32. The start is of a warm-cache
`edgeward.load` beside the session of the bare engine (`bare`). Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.selection.bare import bare_opening
from runtime.backends.base import RunOptions, Session
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.opened import open_variant
from runtime.bundle.manifest import Format
from runtime.bundle.unchanged import SETTLED_AFTER_NS
from runtime.engine.load import load
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.watch_settings import WatchSettings
from runtime.selection.rows import rows_for

QUIET_S = 0.05
"""ONNX Runtime's workers spin for some 30 ms after a call, and would slow down whoever has the next turn."""
AT_ONCE_S = 0.005
"""The same after sessions as Edgeward opens them, which spin for 1 ms (`SPIN_US`)."""
WARM_UP_CALLS = 3

Turns = list[list[float]]
"""Milliseconds, one list a turn, one entry a side."""


def main(arguments: list[str]) -> None:
    """Measures and prints."""
    source, home, pairs, turn_s = arguments[0], Path(arguments[1]), int(arguments[2]), float(arguments[3])
    # Nothing but the calls themselves: what the watch costs them stays, what it would do beside them does not.
    settings = EngineSettings(home=home, watch=WatchSettings(shadow_every=0, recalibrate_every_s=0))
    with load(source, settings) as model:
        found = {
            "serving": model.serving,
            "from_cache": model.choice.from_cache,
            "gain": _gain(model, pairs, turn_s),
            **_start_settled(model, source, settings, pairs),
        }
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # some engines take long to end, and there is nothing left to lose


def _gain(model: Model, turns: int, turn_s: float) -> Turns | None:
    """A call of the default session, of the chosen variant, of the whole model; None where there is no ONNX file."""
    reference = next((variant for variant in model.bundle.variants if variant.format is Format.ONNX), None)
    if reference is None:
        return None
    import onnxruntime as ort

    row = rows_for(model.bundle, model.inputs, seed=1).take(1)
    session = ort.InferenceSession(str(model.bundle.path_of(reference)))
    own = open_variant(model.bundle, reference, OnnxRuntimeBackend.cpu(), RunOptions())
    own.close()
    candidate = model.candidate
    variant = open_variant(model.bundle, candidate.variant, candidate.backend, candidate.options)
    # Whoever calls the session has to bring rows into the model's form, too.
    calls = (lambda: session.run(None, own.prepare(row)), lambda: variant.predict(row), lambda: model.predict(row))
    return _interleave(calls, turns, turn_s)


def _interleave(calls: Sequence[Callable[[], object]], turns: int, turn_s: float) -> Turns:
    found = []
    for turn in range(turns):
        took = [0.0] * len(calls)
        for at in range(len(calls)):
            side = (at + turn) % len(calls)
            time.sleep(QUIET_S)
            took[side] = _turn(calls[side], turn_s)
        found.append(took)
    return found


def _turn(call: Callable[[], object], turn_s: float) -> float:
    """The median milliseconds of the calls of one turn."""
    clock = time.perf_counter_ns
    for _ in range(WARM_UP_CALLS):
        call()
    took: list[int] = []
    end = clock() + int(turn_s * 1e9)
    while not took or clock() < end:
        began = clock()
        call()
        took.append(clock() - began)
    return median(took) / 1e6


def _start_settled(model: Model, source: str, settings: EngineSettings, pairs: int) -> dict[str, Turns | bool]:
    """`_start`, once what the first load wrote is no longer new: until then every load reads it again, and not only looks at it."""
    time.sleep(SETTLED_AFTER_NS / 1e9)
    cold = _start(model, source, settings, pairs, QUIET_S)
    return {**_start(model, source, settings, pairs, AT_ONCE_S), "cold_start": cold["start"]}


def _start(model: Model, source: str, settings: EngineSettings, pairs: int, pause_s: float) -> dict[str, Turns | bool]:
    """Milliseconds to open the chosen file with the bare engine and to `load` the model, in turn; and to the first answer.

    `pause_s`: before each; after 50 ms what it needs has left the processor's caches. Of an engine without a bare way here the
    first is the session that selection opens, and `is_start_bare` says so. A first answer of the engine alone is one of
    that session.
    """
    candidate = model.candidate
    path = model.bundle.path_of(candidate.variant)
    row = rows_for(model.bundle, model.inputs, seed=1).take(1)
    own = open_variant(model.bundle, candidate.variant, candidate.backend, candidate.options)
    prepared = own.prepare(row)
    own.close()

    def opened() -> Session:
        return candidate.backend.open(path, candidate.options)

    bare = bare_opening(candidate, path)
    openings = (bare or opened, lambda: load(source, settings), opened)
    started: Turns = []
    answered: Turns = []
    for turn in range(pairs + 1):
        took, first = [0.0] * len(openings), [0.0] * len(openings)
        for at in range(len(openings)):
            side = (at + turn) % len(openings)
            time.sleep(pause_s)
            began = time.perf_counter_ns()
            made = openings[side]()
            opened_ns = time.perf_counter_ns()
            if isinstance(made, Model):
                made.predict(row)
            elif side:
                made.run(prepared)
            ended_ns = time.perf_counter_ns()
            if side:
                made.close()
            del made
            took[side], first[side] = (opened_ns - began) / 1e6, (ended_ns - began) / 1e6
        if turn:  # the first one finds nothing in any cache
            started.append(took[:2])
            answered.append([first[2], first[1]])
    return {"start": started, "first": answered, "is_start_bare": bare is not None}


if __name__ == "__main__":
    main(sys.argv[1:])

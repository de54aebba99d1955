"""A real model asked by more threads than there are cores: its calls get slow, and that is no drift.

One call takes longer than a thread gets of a core at a time, or callers would not slow each other.

The clock of the watch is the processor's time of this process, so that what other programs do to the machine does not show.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime.engine import own_load, watch
from runtime.engine.drift import Verdict
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.engine.own_load import Claim, Clocks, Seen
from runtime.engine.settings import EngineSettings
from runtime.selection.settings import SelectionSettings
from tests.runtime.building.sources import save_linear

pytestmark = pytest.mark.slow

THREADS = 12
WIDTH, LAYERS = 256, 60
PATIENCE_S = 60.0
LOOKS = 8


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A chain of products on one thread, looked at every 0.2 s of the processor's time; drift that lasts a second is drift."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr("runtime.engine.drift.SUSTAINED_S", 1.0)
    selection = SelectionSettings(budget_s=0.3, isolate=False, threads=1, backends=("onnxruntime-cpu",))
    weight = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
    chain = [
        onnx.helper.make_node(
            "MatMul", [f"p{at}" if at else "product", "weight"], [f"p{at + 1}" if at + 1 < LAYERS else "y"]
        )
        for at in range(LAYERS)
    ]
    engine = Engine(EngineSettings(selection, home=tmp_path / "home"))
    model = engine.load(save_linear(tmp_path / "chain.onnx", weight, *chain))
    assert model.watch is not None
    model.watch._clocks = Clocks(wall=time.process_time_ns)
    model.watch._next_look_ns = time.process_time_ns()
    return model


def saturate(model: Model) -> None:
    """Asks from all threads at once until the watch has looked so many times, or drift was found."""
    assert model.watch is not None
    totals, stop = model.watch.totals, threading.Event()
    rows = np.ones((32, WIDTH), np.float32)

    def ask() -> None:
        while not stop.is_set():
            model.predict(rows)

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE_S
    while totals.verdicts.total() < LOOKS and not totals.recalibrations and time.monotonic() < end:
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    model.close()
    assert totals.verdicts.total() >= 3, "it was looked at"


def test_a_saturated_model_is_not_measured_again(model: Model) -> None:
    saturate(model)
    assert model.watch is not None
    totals = model.watch.totals
    assert totals.recalibrations == 0
    assert totals.verdicts[Verdict.OWN_LOAD] >= 3, f"it was slow under its own load: {totals.verdicts}"
    assert totals.verdicts[Verdict.SLOWER] == 0


def test_by_the_clock_alone_the_same_load_is_drift(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_took(seen: Seen, claim: Claim, cores: int) -> float:
        return float(seen.wall_ns)

    monkeypatch.setattr(own_load, "alone_ns", as_it_took)
    saturate(model)
    assert model.watch is not None
    assert model.watch.totals.recalibrations == 1

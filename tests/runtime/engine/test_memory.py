"""Unloading gives memory back: measured in a process of its own, over several loads of a model that is mostly weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.registry import our_backends
from runtime.bundle.manifest import Format
from runtime.hardware import probe
from tests.affine import write_affine

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS_BYTES = 64 << 20
# What allocators keep after a load and an unload; a model that stays would cost the whole of its weights each time.
TOLERANCE_BYTES = WEIGHTS_BYTES // 2

PROGRAM = """
import gc, json, sys
from pathlib import Path
import psutil
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.selection.settings import SelectionSettings

home, model = Path(sys.argv[1]), sys.argv[2]
engine = Engine(EngineSettings(SelectionSettings(budget_s=0.1, isolate=False, backends=(sys.argv[3],)), home=home))
me, after = psutil.Process(), []
for _ in range(4):
    engine.load(model)
    loaded = me.memory_info().rss
    engine.unload("heavy")
    gc.collect()
    after.append(me.memory_info().rss)
print(json.dumps({"loaded": loaded, "after": after}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "format_"),
    [
        ("onnxruntime-cpu", Format.ONNX),
        ("openvino-cpu", Format.ONNX),
        ("litert-cpu", Format.TFLITE),
        ("torch-cpu", Format.TORCH),
    ],
)
def test_unloading_gives_memory_back(backend: str, format_: Format, tmp_path: Path) -> None:
    reason = next(each for each in our_backends() if each.name == backend).unavailable_reason(probe())
    if reason is not None:
        pytest.skip(reason)
    side = int((WEIGHTS_BYTES / 4) ** 0.5)
    weights = np.random.default_rng(0).random((side, side), dtype=np.float32)
    model = tmp_path / f"heavy.{format_.value}"
    write_affine(model, format_, weights, np.zeros(side, np.float32))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "home"), str(model), backend],
        cwd=ROOT,
        env={**os.environ, "EDGEWARD_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["loaded"] - told["after"][-1] > TOLERANCE_BYTES, told
    assert told["after"][-1] - told["after"][0] < TOLERANCE_BYTES, told

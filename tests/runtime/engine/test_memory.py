"""Unloading gives memory back: measured in a process of its own, over several loads of a model that is mostly weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS_BYTES = 64 << 20
# What allocators keep after a load and an unload; a model that stays would cost the whole of its weights each time.
TOLERANCE_BYTES = WEIGHTS_BYTES // 2

PROGRAM = """
import gc, json, sys
from pathlib import Path
import psutil
from runtime.engine.engine import Engine, EngineSettings
from runtime.selection.settings import SelectionSettings

home, model = Path(sys.argv[1]), sys.argv[2]
engine = Engine(EngineSettings(SelectionSettings(budget_s=0.1, isolate=False, backends=("onnxruntime-cpu",)), home=home))
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
def test_unloading_gives_memory_back(tmp_path: Path) -> None:
    side = int((WEIGHTS_BYTES / 4) ** 0.5)
    weights = np.random.default_rng(0).random((side, side), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", side])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "heavy.onnx")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "home"), str(tmp_path / "heavy.onnx")],
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

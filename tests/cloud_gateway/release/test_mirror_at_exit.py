"""A gateway that ends without closing a mirror: a whole process, whose end tells."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[3]
ENDS_WITHIN_S = 120.0

MIRRORS = """
import sys
from pathlib import Path

import numpy as np

from cloud_gateway.release.mirror import Mirror
from runtime.bundle.bare import read_bare_file
from runtime.engine.engine import Engine
from runtime.engine.settings import EngineSettings
from runtime.selection.settings import SelectionSettings

only = SelectionSettings(budget_s=0.1, backends=("onnxruntime-cpu",), isolate=False)
engine = Engine(EngineSettings(only, home=Path(sys.argv[2])))
stable, candidate = (engine.add(read_bare_file(Path(sys.argv[1]), version=version)) for version in (1, 2))
mirror = Mirror(stable, candidate, max_queued=1000, twice_every=1, has_copy=False)
for number in range(300):
    assert mirror.offer({"x": np.zeros((64, 512), np.float32)}, None, "all", str(number))
while not mirror.take(1):
    pass
print(mirror.waiting > 100)
"""


@pytest.mark.slow
def test_the_interpreter_ends_orderly_while_the_mirror_is_inside_an_engine(tmp_path: Path) -> None:
    matrix = numpy_helper.from_array(np.eye(512, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", [f"y{n}" if n else "x", "w"], [f"y{n + 1}"]) for n in range(30)]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 512])],
        [helper.make_tensor_value_info("y30", TensorProto.FLOAT, ["n", 512])],
        [matrix],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "slow.onnx")
    arguments = [sys.executable, "-c", MIRRORS, str(tmp_path / "slow.onnx"), str(tmp_path / "home")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=ENDS_WITHIN_S)
    assert done.stdout == "True\n", done.stderr
    assert done.returncode == 0, done.stderr

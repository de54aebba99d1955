"""What is OpenVINO's own: it computes here and reports to nobody."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.bundle.bundle import Bundle

pytest.importorskip("openvino", reason="openvino is not installed")

PROGRAM = """
import sys
from pathlib import Path
from runtime.backends.base import RunOptions
from runtime.backends.openvino import OpenVinoBackend
session = OpenVinoBackend().open(Path(sys.argv[1]), RunOptions(1))
loaded = [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert not loaded, loaded
"""


def test_it_is_imported_without_its_telemetry(digits: Bundle) -> None:
    root = Path(__file__).resolve().parents[3]
    model = digits.root / "variants" / "fp32.onnx"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(model)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

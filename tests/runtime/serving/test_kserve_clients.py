"""KServe's clients, where an interpreter that has them is given: pytest --kserve-python PYTHON."""

import subprocess
from pathlib import Path

import pytest

from tests.runtime.serving.threaded import Threaded

PROGRAM = Path(__file__).with_name("kserve_clients.py")


@pytest.mark.slow
def test_kserves_clients_are_answered(real: Threaded, request: pytest.FixtureRequest) -> None:
    python = request.config.getoption("--kserve-python")
    if python is None:
        pytest.skip("no --kserve-python PYTHON: an environment of its own, made with pip install kserve==0.21.0")
    done = subprocess.run([python, str(PROGRAM), real.grpc, real.http], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("infer") == 4

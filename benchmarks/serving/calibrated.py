"""What Edgeward chooses for this machine of the bundle that everybody serves one file of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import ROOT
from runtime.bundle.objective import Objective
from runtime.errors import MachineError

# A calibration takes 3 s; engines are imported before it, on a machine that may be busy.
LIMIT_S = 120.0


def choose(bundle: str, home: Path) -> str:
    """The choice in words, such as "int8.onnx on onnxruntime-cpu, 1 thread: 0.064 ms, chosen: the fastest of 12 that may run".

    Measures where `home` keeps no choice that still holds, in a process of its own. `MachineError` with what that said.
    """
    command = [sys.executable, "-m", "edgeward", "calibrate", bundle, "--objective", Objective.EFFICIENCY, "--json"]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "EDGEWARD_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"`edgeward calibrate {bundle}` took more than {LIMIT_S:g} s; end what else runs here, and measure again"
        ) from error
    if done.returncode:
        raise MachineError(f"`edgeward calibrate {bundle}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    said: str = json.loads(done.stdout)["ranked"][0]["verdict"]
    return said

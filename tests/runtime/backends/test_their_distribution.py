"""A backend that another distribution brings: built, installed by pip beside the tests, and chosen, served and run as ours are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SOURCE = Path(__file__).with_name("their_distribution")
ROOT = Path(__file__).resolve().parents[3]
NAME = "onnx-reference"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the distribution to."""
    for needed in ("pip", "setuptools", "onnx"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed}, which this takes without a network, is not installed")
    source = tmp_path_factory.mktemp("source") / "theirs"  # a build writes beside its sources
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, source)
    done = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, install)], cwd=target, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return target


def edgeward(installed: Path, home: Path, *words: object) -> str:
    """What the command prints, in a process that finds the distribution."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(installed))), "EDGEWARD_HOME": str(home)}
    code = "import sys, edgeward; edgeward.main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_measured_beside_ours_each_try_in_a_process_of_its_own(
    installed: Path, digits: Bundle, tmp_path: Path
) -> None:
    told = json.loads(edgeward(installed, tmp_path, "calibrate", "digits", "--threads", 1, "--json"))
    theirs = {one["variant"]: one for one in told["ranked"] if one["backend"] == NAME}
    assert theirs["fp32.onnx"]["agreement"] == 1.0
    assert told["ranked"][0]["backend"] != NAME, "numpy is not the fastest"


def test_it_answers_as_onnx_runtime_does(installed: Path, digits: Bundle, tmp_path: Path) -> None:
    samples = digits.samples()
    assert samples is not None
    image = samples.inputs["image"][:5]
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, json, numpy as np\n"
        "from pathlib import Path\n"
        "from runtime.engine.load import load\n"
        "from runtime.engine.settings import EngineSettings\n"
        "from runtime.selection.settings import SelectionSettings\n"
        "wanted = SelectionSettings(budget_s=0.2, threads=1, backends=(sys.argv[2],), variants=('fp32.onnx',))\n"
        "model = load('digits', EngineSettings(wanted, home=Path(sys.argv[1])))\n"
        "print(json.dumps([model.serving, model.predict(np.load(sys.argv[3]))['probabilities'].tolist()]))\n"
        "model.close()\n"
    )
    variables = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(installed)))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "home"), NAME, str(tmp_path / "image.npy")],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    serving, answers = json.loads(done.stdout)
    assert serving == f"fp32.onnx on {NAME}, 1 thread"
    np.testing.assert_allclose(answers, samples.outputs["probabilities"][:5], atol=1e-5)

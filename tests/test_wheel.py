"""What `pipx install edgeward` would install: the wheel, in an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from tests.programs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PACKAGES = ("runtime", "edge_agent", "cloud_gateway", "protos", "benchmarks")
OTHERS = ("edgeward.py", "pyproject.toml", "README.md", "LICENSE")


def run(*words: str | Path, cwd: Path, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGEWARD", "VIRTUAL"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=kept | variables, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources once more, for a build writes beside them."""
    folder = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in OTHERS:
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("pip", "setuptools"):  # looked for, not imported: setuptools would replace distutils in this process
        if find_spec(needed) is None:
            pytest.skip(f"{needed}, which builds the wheel without a network, is not installed")
    out = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out, source)
    run(sys.executable, "-m", "pip", *build, cwd=out)
    (found,) = out.glob("edgeward-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's `bin`: the wheel in it, and what it needs from where the tests have it."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    (site,) = (folder / "lib").glob("python*/site-packages")
    needed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "needed.pth").write_text("\n".join(needed) + "\n")
    return folder / "bin"


def test_every_file_of_the_packages_is_in_the_wheel(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    wanted = {
        str(file.relative_to(source)) for name in PACKAGES for file in (source / name).rglob("*") if file.is_file()
    }
    # What measurements left and what only the repository's readers want stays behind.
    missing = {name for name in wanted - shipped if not name.startswith(("benchmarks/results/",))}
    assert missing == set()


def test_the_installed_program_answers_away_from_the_checkout(installed: Path, digits: Bundle, tmp_path: Path) -> None:
    home = {"EDGEWARD_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    where = run(installed / "python", "-c", "import runtime; print(runtime.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent), "the wheel's own, not the checkout's"
    assert "0.1.0" in run(installed / "edgeward", "--version", cwd=tmp_path, **home)
    shown = run(installed / "edgeward", "agent", "install", "digits", "--dry-run", cwd=tmp_path, **home)
    assert f"{installed / 'python'} -m edgeward agent run digits" in shown
    samples = digits.samples()
    assert samples is not None
    np.save(tmp_path / "in.npy", samples.inputs["image"][:40])
    run(installed / "edgeward", "predict", "digits", "in.npy", "-o", "out.npy", cwd=tmp_path, **home)
    answers = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(answers.argmax(axis=1), samples.outputs["probabilities"][:40].argmax(axis=1))

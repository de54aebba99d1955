"""Environments that our scripts make: somebody's own one of the same name is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for bash")
def test_an_environment_that_no_script_made_is_left_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / ".venv"
    own.mkdir()
    (own / "mine").write_text("kept")
    code = f'. scripts/environment.sh; make_environment "{own}" ""'
    done = subprocess.run(["bash", "-ec", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "none of these scripts made it" in done.stderr
    assert [file.name for file in own.iterdir()] == ["mine"]


@pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for bash")
def test_an_install_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    # Has the module venv, and ends as soon as it began to make an environment.
    python.write_text(
        f"""#!/bin/sh
case "$2" in
    *ensurepip*) exit 0 ;;
    venv) mkdir -p "$3/bin"; exit 3 ;;
esac
exec '{sys.executable}' "$@"
"""
    )
    python.chmod(0o755)
    own = tmp_path / ".venv"
    code = f'. scripts/environment.sh; make_environment "{own}" ""'
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-ec", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 3, done.stderr
        assert "none of these scripts made it" not in done.stderr
        assert (own / "stamp").read_text() == "unfinished\n"

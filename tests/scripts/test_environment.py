"""Environments that our scripts make: somebody's own one of the same name is left alone."""

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

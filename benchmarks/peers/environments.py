"""A virtual environment for each peer, under EDGEWARD_HOME/peers: made once, again when its requirements change."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.catalogue import Peer

# The largest (Ray) took three minutes from a mirror near by.
INSTALL_TIMEOUT_S = 1800.0
_MARK = "edgeward-requirements.txt"


class InstallError(Exception):
    """A peer cannot be installed here; the text says why."""


def python_of(peer: Peer, folder: Path) -> Path:
    """The interpreter of the peer's environment, made first where it is not there; `InstallError` says why not."""
    home = folder / peer.name
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = "\n".join(peer.requirements) + "\n"
    mark = home / _MARK
    if mark.is_file() and mark.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        venv.create(home, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise InstallError(
            f"no virtual environment can be made with {sys.executable}: {error}; where ensurepip is missing, install it "
            "(Debian: python3-venv)"
        ) from error
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"pip took more than {INSTALL_TIMEOUT_S:g} s for {', '.join(peer.requirements)}") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallError(f"pip install {' '.join(peer.requirements)}: {(errors or [done.stderr[-300:]])[-1][:300]}")
    mark.write_text(wanted)
    return python

"""What is said where a peer has no environment."""

import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.catalogue import Peer
from benchmarks.peers.environments import InstallError, python_of


@pytest.mark.parametrize(
    "error", [subprocess.CalledProcessError(1, ["python", "-m", "ensurepip"]), PermissionError("read-only")]
)
def test_a_machine_that_makes_no_environments_is_a_reason(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(venv, "create", fail)
    exchange: Any = None
    peer = Peer("good", ("nothing",), exchange, uses_grpc_port=False, folder=tmp_path)
    with pytest.raises(InstallError, match="no virtual environment can be made .* python3-venv"):
        python_of(peer, tmp_path / "peers")

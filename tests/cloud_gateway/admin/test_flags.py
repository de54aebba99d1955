"""Commands that ask the admin API know its address, and judge nothing else of how the gateway was started."""

import sys
from pathlib import Path

import pytest

from cloud_gateway.admin.flags import connect_admin
from runtime.errors import WrongUseError


def address(port: int | None = None, config: Path | None = None) -> str:
    with connect_admin(None, port, None, config, changes=False) as client:
        return str(client.address)


def test_the_address_comes_from_flags_then_variables_then_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    assert address().endswith("127.0.0.1:8002")
    file = tmp_path / "gateway.toml"
    file.write_text('models = ["digits"]\nadmin_host = "10.0.0.7"\nadmin_port = 9000\n')
    assert address(config=file).endswith("10.0.0.7:9000")
    monkeypatch.setenv("EDGEWARD_ADMIN_PORT", "9001")
    assert address(config=file).endswith("10.0.0.7:9001")
    assert address(9002, file).endswith("10.0.0.7:9002")
    file.write_text("admin_prot = 9000\n")
    with pytest.raises(WrongUseError, match="admin_port"):
        address(config=file)


def test_what_the_gateway_itself_would_be_refused_for_is_not_this_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    monkeypatch.setenv("EDGEWARD_MAX_QUEUED_ROWS", "few")
    monkeypatch.setenv("EDGEWARD_GRPC_PORT", "8002")
    monkeypatch.delitem(sys.modules, "cloud_gateway.settings", raising=False)
    assert address().endswith("127.0.0.1:8002")
    assert "cloud_gateway.settings" not in sys.modules, "nor are the settings of a gateway loaded"

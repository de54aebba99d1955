"""The gateway put together: its ports, and that the admin API is there while it serves."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.admin.settings import ADMIN_PORT
from cloud_gateway.settings import GatewaySettings
from runtime.errors import UnsupportedError
from tests.programs import environment, started


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ADMIN_PORT),
        ({"http_port": 0}, 0),
        ({"http_port": 9000}, ADMIN_PORT),
        ({"admin_port": 7}, 7),
        ({"admin_port": 0}, 0),
    ],
)
def test_the_admin_port_follows_a_free_http_port(given: dict[str, int], expected: int) -> None:
    assert GatewaySettings(**given).chosen_admin_port == expected


@pytest.mark.parametrize("given", [{"admin_port": 8000}, {"admin_port": 8001}, {"http_port": 8002}])
def test_ports_must_differ(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="asked for twice"):
        GatewaySettings(**given)


def test_gateways_on_one_database_share_results_too(tmp_path: Path) -> None:
    shared = "postgresql+psycopg://edgeward@db/fleet"
    assert GatewaySettings(database=shared).results_url(tmp_path) == shared  # type: ignore[arg-type]
    assert GatewaySettings().results_url(tmp_path).endswith("/gateway/results.db")


@pytest.mark.slow
def test_a_gateway_tells_where_its_admin_api_is(tmp_path: Path) -> None:
    run = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0")
    with ExitStack() as stack:
        gateway = stack.enter_context(started(tmp_path, *run))
        address = gateway.admin.removeprefix("http://")
        client = stack.enter_context(AdminClient(address, read_admin_key(admin_key_file(tmp_path))))
        assert client.get("/admin/status")["models"] == gateway.models
        with pytest.raises(UnsupportedError):
            client.post("/admin/status")
        port = address.rpartition(":")[2]
        failed = subprocess.run(
            [sys.executable, "-m", "edgeward", *run, "--admin-port", port],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert failed.returncode == 1
        assert f"port {port} on 127.0.0.1 is in use" in failed.stderr
        assert "--admin-port" in failed.stderr
        assert "Traceback" not in failed.stderr

"""A gateway on a disk that is read-only, from its start or from then on: it answers, and says what it does not keep."""

from __future__ import annotations

import resource
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.settings import GatewaySettings
from cloud_gateway.unkept import footing
from edge_agent.telemetry import Telemetry, poster
from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.client.document import fetch_document
from runtime.errors import PeerFailedError, StorageError, UnauthenticatedError
from runtime.monitoring.bundled import bundled_baseline
from runtime.monitoring.monitor import Window
from runtime.monitoring.summary import Summary
from runtime.telemetry.elapsed import elapsed_s
from runtime.tensors import Array
from tests.chaos.test_full_disk import disk
from tests.cloud_gateway.test_monitoring_full_disk import metric
from tests.programs import PATIENCE_S, calibrated_home, started

__all__ = ["disk"]  # pytest finds it here by its name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUN = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0")


def remount(disk: Path, how: str) -> None:
    subprocess.run(("mount", "-o", f"remount,{how}", str(disk)), check=True)


def image(digits: Bundle) -> Array:
    samples = digits.samples()
    assert samples is not None
    return samples.inputs["image"][:1]


def window(digits: Bundle) -> Window:
    samples, base = digits.samples(), bundled_baseline(digits)
    assert samples is not None
    assert base is not None
    summary = Summary(base)
    summary.update({"image": samples.inputs["image"]}, {"probabilities": samples.outputs["probabilities"]})
    return Window(summary, elapsed_s() - 40, elapsed_s() - 10)


def is_answered_and_counted(gateway_http: str, gateway_grpc: str, digits: Bundle) -> None:
    """By key too; and a device's window is counted, though it is not kept."""
    samples = digits.samples()
    assert samples is not None
    http = gateway_http.removeprefix("http://")
    with connect(gateway_grpc) as client:
        answer = client.predict("digits", samples.inputs["image"][:4], timeout_s=PATIENCE_S)
        assert (
            answer.outputs["probabilities"].argmax(1).tolist()
            == samples.outputs["probabilities"][:4].argmax(1).tolist()
        )
    telemetry = Telemetry("pi", poster(http, None))
    telemetry.offer(window(digits))
    telemetry.send_due()
    assert telemetry.describe()["sent"] == 1, telemetry.describe()
    (model,) = fetch_document(http, "/edgeward/drift")["devices"]["models"]
    assert model["rows"] == len(samples.inputs["image"])


@pytest.mark.parametrize("is_used", [True, False], ids=["used before", "fresh"])
def test_started_there_it_answers_from_where_releases_stood_and_refuses_changes(
    disk: Path, tmp_path: Path, digits: Bundle, is_used: bool
) -> None:
    if is_used:
        with started(disk, *RUN) as before, AdminClient(before.admin.removeprefix("http://"), None) as admin:
            audited = admin.get("/admin/audit/check")
    else:
        started_with_calibrations(disk)
    remount(disk, "ro")
    log = tmp_path / "log"
    with started(disk, *RUN, log=log) as gateway:
        is_answered_and_counted(gateway.http, gateway.grpc, digits)
        key = read_admin_key(admin_key_file(disk)) if is_used else "edgeward_admin_guessed"
        refused_as, why = (
            (PeerFailedError, "gone at the next start") if is_used else (UnauthenticatedError, "not this gateway's")
        )
        with (
            AdminClient(gateway.admin.removeprefix("http://"), key) as admin,
            pytest.raises(refused_as, match=why),
        ):
            admin.post("/admin/releases", {"plan": ""})
        with AdminClient(gateway.admin.removeprefix("http://"), key if is_used else None) as reader:
            assert reader.get("/admin/releases") == {"releases": []}
            if is_used:
                assert reader.get("/admin/audit/check") == audited
        refused = httpx.post(f"{gateway.http}/edgeward/bundles/outcomes", json={"device": "pi", "outcomes": []})
        assert refused.status_code == 507, "so that a device tells it again"
    said = log.read_text()
    assert "takes nothing (" in said
    assert "the admin API refuses changes" in said
    assert "statistics of devices are counted but not kept" in said


def started_with_calibrations(home: Path) -> None:
    """As a home that holds nothing else."""
    subprocess.run(("cp", "-r", str(calibrated_home() / "calibrations"), str(home)), check=True)


def test_when_it_becomes_so_answers_go_on_and_what_is_not_kept_is_counted(tmp_path: Path, digits: Bundle) -> None:
    with started(tmp_path, *RUN) as gateway:
        # A disk with open files is made read-only by its own failure alone. Here each write to a file fails from now on.
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        is_answered_and_counted(gateway.http, gateway.grpc, digits)
        assert metric(gateway.http, "edgeward_device_windows_not_stored_total") == 1
        end = time.monotonic() + PATIENCE_S
        while not metric(gateway.http, "edgeward_history_failures_total"):
            assert time.monotonic() < end, "it never tried to store its history"
            time.sleep(0.1)
        with connect(gateway.grpc) as client:
            assert client.predict("digits", image(digits), timeout_s=PATIENCE_S).outputs


def test_with_a_level_of_automation_it_does_not_start(disk: Path) -> None:
    remount(disk, "ro")
    settings = GatewaySettings.model_validate(
        {"automation": [{"model": "digits", "margin": 0.05, "selective_risk": 0.1}]}
    )
    with pytest.raises(StorageError, match="model 'digits' has a level of automation"), footing(settings, disk):
        pass

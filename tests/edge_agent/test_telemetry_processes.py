"""An agent and a gateway as processes: statistics travel, drift shows at both, and `drift report` reads it."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.telemetry import Telemetry, poster
from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.client.document import exchange_document, fetch_document
from runtime.monitoring.bundled import bundled_baseline
from runtime.monitoring.monitor import Window
from runtime.monitoring.summary import Summary
from runtime.wire.values import InferenceRequest
from tests.certificates import issue
from tests.programs import PATIENCE_S, started


def until(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return seen


@pytest.mark.slow
def test_statistics_of_an_agent_reach_the_gateways_document(tmp_path: Path, digits: Bundle) -> None:
    samples, base = digits.samples(), bundled_baseline(digits)
    assert samples is not None
    assert base is not None
    with started(tmp_path, "gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0") as gateway:
        http = gateway.http.removeprefix("http://")
        telemetry = Telemetry("laptop", poster(http, None))
        for change in (lambda v: v, lambda v: 1 - v):
            summary = Summary(base)
            summary.update(
                {"image": change(samples.inputs["image"])}, {"probabilities": samples.outputs["probabilities"]}
            )
            telemetry.offer(Window(summary, time.monotonic() - 40, time.monotonic() - 10))
        telemetry.send_due()
        assert telemetry.describe()["sent"] == 2
        told = fetch_document(http, "/edgeward/drift")
        model = told["devices"]["models"][0]
        assert (model["rows"], model["is_drifting"]) == (900, True)
        blob = base64.b64encode(b"EWSM\x09" + bytes(90)).decode()
        document = {"device": "x", "window": "0" * 32, "age_s": 1.0, "span_s": 1.0, "blob": blob}
        hostile = json.dumps(document).encode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{gateway.http}/edgeward/telemetry", hostile), timeout=10)
        assert refused.value.code == 400
        assert b"version 9" in refused.value.read()
        refused.value.close()
        with connect(gateway.grpc) as client:
            for row in samples.inputs["image"][:20]:
                client.infer(InferenceRequest("digits", {"image": row[None]}))
        own = until(lambda: fetch_document(http, "/edgeward/drift")["models"])
        assert own[0]["baseline"]["key"] == model["baseline"]["key"], "both count by the same bins"


def drifting(http: str, seen_by: str) -> float | None:
    """What the program's metrics say of features that drift, by who saw them; None: nobody has looked yet."""
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    found = [
        line for line in lines if line.startswith("edgeward_drifting_features{") and f'seen_by="{seen_by}"' in line
    ]
    return float(found[0].rpartition(" ")[2]) if found else None


@pytest.mark.slow
def test_drift_on_devices_raises_the_gateways_metric_and_leads_its_automation_down(
    tmp_path: Path, digits: Bundle
) -> None:
    samples, base = digits.samples(), bundled_baseline(digits)
    assert samples is not None
    assert base is not None
    config = tmp_path / "gateway.toml"
    config.write_text('[[automation]]\nmodel = "digits"\nstart_level = "full"\n')
    ports = ("--grpc-port", "0", "--http-port", "0")
    with started(tmp_path, "gateway", "run", "digits", *ports, "--config", str(config)) as gateway:
        telemetry = Telemetry("laptop", poster(gateway.http.removeprefix("http://"), None))

        def level() -> dict[str, Any]:
            (told,) = fetch_document(gateway.admin.removeprefix("http://"), "/admin/automation")["standings"]
            return told

        for change in (lambda v: v, lambda v: 1 - v):
            assert level()["level"] == "full"
            summary = Summary(base)
            summary.update(
                {"image": change(samples.inputs["image"])}, {"probabilities": samples.outputs["probabilities"]}
            )
            telemetry.offer(Window(summary, time.monotonic() - 40, time.monotonic() - 10))
            telemetry.send_due()
            until(lambda: drifting(gateway.http, "devices") is not None)
        assert drifting(gateway.http, "devices") > 0
        assert drifting(gateway.http, "gateway") is None, "it was asked nothing itself"
        until(lambda: level()["level"] == "assist")
        assert "on devices, image." in level()["drift"]


@pytest.mark.slow
def test_a_device_alone_raises_the_same_metric(tmp_path: Path, digits: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARD_MONITOR_ROWS_PER_S", "1000000000")
    samples = digits.samples()
    assert samples is not None
    images = np.resize(samples.inputs["image"], (750, 1, 8, 8))
    with started(tmp_path, "agent", "run", "digits", "--grpc-port", "0", "--http-port", "0") as agent:
        with connect(agent.grpc) as client:
            for _ in range(3):  # a window closes at once when it holds 2,048 rows
                client.predict("digits", 1 - images)
        until(lambda: drifting(agent.http, "device"))
        with urllib.request.urlopen(f"{agent.http}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        assert 'feature="image.brightness",stat="p50"' in text
        assert 'edgeward_feature_category_ratio{model="digits"' in text


@pytest.mark.slow
def test_an_agent_counts_and_can_be_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((1, 1, 8, 8), np.float32)
    for monitor in ("true", "false"):
        monkeypatch.setenv("EDGEWARD_MONITOR", monitor)
        with started(tmp_path, "agent", "run", "digits", "--grpc-port", "0", "--http-port", "0") as agent:
            with connect(agent.grpc) as client:
                client.infer(InferenceRequest("digits", {"image": image}))
            http = agent.http.removeprefix("http://")
            told = fetch_document(http, "/edgeward/drift")
            assert told["is_monitoring"] is (monitor == "true")
            if told["is_monitoring"]:
                models = until(lambda: fetch_document(http, "/edgeward/drift")["models"])  # noqa: B023  (called at once)
                assert models[0]["open_rows"] == 1
            assert agent.status()["telemetry"] is None


@pytest.mark.slow
def test_calls_statistics_and_models_all_go_over_tls(tmp_path: Path, digits: Bundle) -> None:
    samples = digits.samples()
    assert samples is not None
    issue(tmp_path)
    ca, cert, key = (tmp_path / f"{name}.pem" for name in ("ca", "cert", "key"))
    homes = [tmp_path / "cloud", tmp_path / "edge"]
    for home in homes:
        home.mkdir()
    ports = ("--grpc-port", "0", "--http-port", "0")
    with started(
        homes[0], "gateway", "run", "digits", *ports, "--tls-cert", str(cert), "--tls-key", str(key)
    ) as gateway:
        http, grpc = gateway.http.removeprefix("https://"), gateway.grpc.removeprefix("grpcs://")
        settings = homes[1] / "agent.toml"
        settings.write_text(
            f'models = ["digits"]\ngateway = "grpcs://{grpc}"\ngateway_http = "https://{http}"\ngateway_ca = "{ca}"\n'
            f'sync_from = "https://{http}"\nsync_models = ["digits"]\ndevice_name = "laptop"\n'
        )
        with started(homes[1], "agent", "run", *ports, "--config", str(settings)) as agent:
            with connect(agent.grpc) as client:
                for row in samples.inputs["image"][:20]:
                    client.infer(InferenceRequest("digits", {"image": row[None]}))
                reply = client.infer(InferenceRequest("digits", {"image": row[None]}, parameters={"route": "cloud"}))
                assert reply.parameters["served_by"] == "cloud"
            synced = exchange_document(agent.http.removeprefix("http://"), "POST", "/edgeward/sync", timeout_s=60)
            assert synced["last_error"] is None, synced
        # The window was still open: it left as the agent stopped.
        told = fetch_document(http, "/edgeward/drift", tls_cert=cert)
        assert told["devices"]["models"][0]["rows"] == 20, (homes[1] / "agent.log").read_text()

"""A gateway whose disk takes nothing more: it answers, counts, draws its charts, and says what it cannot keep."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

import httpx
import pytest

from edge_agent.telemetry import Telemetry, poster
from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.client.document import fetch_document
from runtime.monitoring.bundled import bundled_baseline
from runtime.monitoring.monitor import Window
from runtime.monitoring.summary import Summary
from runtime.telemetry.elapsed import elapsed_s
from tests.chaos.test_full_disk import disk, fill
from tests.programs import PATIENCE_S, started

__all__ = ["disk"]  # pytest finds it here by its name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUN = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0")


def metric(http: str, name: str) -> float:
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as reply:
        found = re.search(rf"^{name} (\S+)$", reply.read().decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def test_on_a_full_disk_answers_go_on_and_what_is_not_kept_is_counted(disk: Path, digits: Bundle) -> None:
    samples, base = digits.samples(), bundled_baseline(digits)
    assert samples is not None
    assert base is not None
    inputs, outputs = {"image": samples.inputs["image"]}, {"probabilities": samples.outputs["probabilities"]}

    def window() -> Window:
        summary = Summary(base)
        summary.update(inputs, outputs)
        return Window(summary, elapsed_s() - 40, elapsed_s() - 10)

    with started(disk, *RUN) as gateway, connect(gateway.grpc) as client:
        http = gateway.http.removeprefix("http://")
        telemetry = Telemetry("pi", poster(http, None))
        fill(disk / "ballast")
        telemetry.offer(window())
        telemetry.send_due()
        assert telemetry.describe()["sent"] == 1, telemetry.describe()
        assert fetch_document(http, "/edgeward/drift")["devices"]["models"][0]["rows"] == len(inputs["image"])
        assert metric(gateway.http, "edgeward_device_windows_not_stored_total") == 1
        end = time.monotonic() + PATIENCE_S
        while not metric(gateway.http, "edgeward_history_failures_total"):
            client.predict("digits", inputs["image"][:1])
            assert time.monotonic() < end, "it never tried to store its history"
            time.sleep(0.1)
        client.predict("digits", inputs["image"][:1])
        assert metric(gateway.http, "edgeward_statistics_failures_total") == 0
        end = time.monotonic() + PATIENCE_S
        while len(httpx.get(f"{gateway.admin}/page/history?series=0&span_s=600").json()["times"]) <= 3:
            assert time.monotonic() < end, "the charts do not go on in memory"
            time.sleep(0.1)

        (disk / "ballast").unlink()
        telemetry.offer(window())
        telemetry.send_due()
        assert metric(gateway.http, "edgeward_device_windows_not_stored_total") == 1, "this one is kept"
    with started(disk, *RUN) as again:
        told = fetch_document(again.http.removeprefix("http://"), "/edgeward/drift")
        assert told["devices"]["models"][0]["rows"] == len(inputs["image"]), "the one that was kept"

"""Labels reach a real gateway's drift document, metrics and page: calm; what is right changes; it is killed; inputs change."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.client import connect
from runtime.client.document import fetch_document
from runtime.monitoring.performance import LEARN_LABELS
from runtime.wire.values import InferenceRequest
from tests.browser import page_at
from tests.programs import PATIENCE_S, Program, environment, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CONFIG = """
[[automation]]
model = "digits"
start_level = "full"
audit_share = 0.000001
"""
ROWS = 75


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    samples = read_bundle(shipped_bundles()["digits"]).samples()
    assert samples is not None
    assert samples.labels is not None
    return samples.inputs["image"], samples.labels


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """By default a busy second is sampled, and how many rows a window holds would depend on the machine's speed."""
    monkeypatch.setenv("EDGEWARD_MONITOR_ROWS_PER_S", "1000000000")
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    return ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--config", str(config))


class Caller:
    """Asks, and says later what was right."""

    def __init__(self, home: Path, gateway: Program, stack: ExitStack) -> None:
        key = read_admin_key(admin_key_file(home))
        self.admin = stack.enter_context(AdminClient(gateway.admin.removeprefix("http://"), key))
        self.client = stack.enter_context(connect(gateway.grpc))
        self.gateway = gateway
        self.asked = 0

    def ask(self, images: np.ndarray, segment: str = "") -> list[str]:
        names = []
        for first in range(0, len(images), ROWS):
            names.append(f"request-{self.asked}")
            self.asked += 1
            inputs = {"image": images[first : first + ROWS]}
            parameters = {"segment": segment} if segment else {}
            self.client.infer(InferenceRequest("digits", inputs, id=names[-1], parameters=parameters))
        return names

    def label(self, names: list[str], truth: np.ndarray) -> None:
        labels = [
            {"model": "digits", "request_id": name, "label": truth[at * ROWS : (at + 1) * ROWS].tolist()}
            for at, name in enumerate(names)
        ]
        told = self.admin.post("/admin/feedback", {"labels": labels})["labels"]
        assert {one["taken"] for one in told} == {"accepted"}, told

    def document(self) -> dict[str, Any]:
        return fetch_document(self.gateway.http.removeprefix("http://"), "/edgeward/drift")

    def labelled(self) -> dict[str, Any]:
        (one,) = self.document()["labels"]["models"]
        return one

    def metric(self, name: str) -> float:
        with urlopen(f"{self.gateway.http}/metrics", timeout=PATIENCE_S) as reply:
            lines = reply.read().decode().splitlines()
        (line,) = (line for line in lines if line.startswith(f"{name}{{"))
        assert 'model="digits",version="1",role="stable",served_by="cloud"' in line
        return float(line.rpartition(" ")[2])


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_what_is_right_changes_and_the_labels_say_so(
    tmp_path: Path, run: tuple[str, ...], rows: tuple[np.ndarray, np.ndarray], browser: Any
) -> None:
    images, truth = rows
    with started(tmp_path, *run) as gateway, ExitStack() as stack:
        caller = Caller(tmp_path, gateway, stack)
        assert caller.document()["labels"] == {"models": []}
        for _ in range(2):
            caller.label(caller.ask(images), truth)
        calm = caller.labelled()
        assert (calm["labels"], calm["is_worse"], calm["verdict"]) == (900, False, None)
        assert calm["reference_source"] == "the bundle's samples"
        assert calm["accuracy"] > 0.9
        assert caller.metric("edgeward_concept_drift") == 0
        assert caller.metric("edgeward_labelled_rows") == 900
        assert caller.metric("edgeward_labelled_reference_ratio") == pytest.approx(
            calm["reference"]["accuracy"], abs=1e-4
        )

        # From now on a one is called a seven and a seven a one; the images are the same.
        caller.label(caller.ask(images), np.where(truth == 1, 7, np.where(truth == 7, 1, truth)))
        found = caller.labelled()["verdict"]
        assert found["suspect"] == "concept shift"
        assert "no input drifts" in found["detail"]
        assert "newest mistakes" in found["next"]
        assert {(one["label"], one["predicted"]) for one in found["mistakes"][:2]} == {("7", "1"), ("1", "7")}
        assert caller.metric("edgeward_concept_drift") == 1
        assert caller.metric("edgeward_labelled_accuracy_ratio") < 0.9
        with page_at(browser, f"{gateway.admin}/") as page:
            card = page.locator("#drift-findings article", has_text="by labels")
            card.get_by_text("worse", exact=True).wait_for()
            card.get_by_text("concept shift").wait_for()
        gateway.process.kill()
        gateway.process.wait(PATIENCE_S)
    with started(tmp_path, *run) as gateway, ExitStack() as stack:
        again = Caller(tmp_path, gateway, stack).labelled()
        assert (again["labels"], again["verdict"]) == (1350, found)


def test_the_page_says_where_the_model_errs_and_by_what_figures(
    tmp_path: Path, run: tuple[str, ...], rows: tuple[np.ndarray, np.ndarray], browser: Any
) -> None:
    images, truth = rows
    with started(tmp_path, *run) as gateway, ExitStack() as stack:
        caller = Caller(tmp_path, gateway, stack)
        for _ in range(4):
            caller.label(caller.ask(images), truth)
        # By night, on images a third as bright, a four is called a nine.
        caller.label(caller.ask(images / 3, "night"), np.where(truth == 4, 9, truth))
        errors = caller.labelled()["errors"]
        slices = {one["slice"]: one for one in errors["slices"] if one["is_proven"]}
        assert "tag segment = night" in slices
        assert any(name.startswith("image.") for name in slices), slices
        assert {"label": "9", "predicted": "4"}.items() <= errors["confusion"][0].items()
        assert errors["calibration"]["curve"][-1]["rows"] > 1000
        assert errors["newest_disagreements"][0]["request"].startswith("request-")
        gateway.process.kill()  # what was kept of rows is in the database
        gateway.process.wait(PATIENCE_S)
    with started(tmp_path, *run) as gateway, ExitStack() as stack:
        caller = Caller(tmp_path, gateway, stack)
        assert caller.labelled()["errors"] == errors
        for _ in range(5):  # a window closes at once when it holds 2,048 rows
            caller.ask(images)

        def told() -> dict[str, dict[str, Any]]:
            return {one["figure"]: one for one in caller.document()["figures"][0]["figures"]}

        wait_until(lambda: all((told()["p95_latency_ms"]["live"], told()["accuracy"]["test"])))
        figures = told()
        assert figures["accuracy"]["target"] == 0.975
        assert figures["accuracy"]["dev"] > 0.98
        assert figures["accuracy"]["test"] > 0.98
        assert figures["accuracy"]["live"] == caller.labelled()["accuracy"]
        with page_at(browser, f"{gateway.admin}/", viewport={"width": 390, "height": 800}) as page:
            card = page.locator("#drift-findings article", has_text="by labels")
            card.get_by_text("tag segment = night").wait_for()
            assert card.locator("tr", has_text="tag segment = night").get_by_text("proven").count() == 1
            assert card.locator("svg circle").count() == len(errors["calibration"]["curve"])
            card.get_by_text("Newest wrong answers").click()
            card.get_by_text(errors["newest_disagreements"][0]["request"]).first.wait_for()
            table = page.locator("#figures tbody tr", has_text="accuracy")
            assert "97.5 %" in table.inner_text()
            seen = page.locator("#drift-findings article", has_text="What it answers")
            seen.locator("meter").nth(9).wait_for()
            assert seen.locator("meter").count() == 10
            seen.get_by_text("Statistics of").click()
            seen.locator("details tr", has_text="image.brightness").wait_for()
            page.get_by_label("Find").nth(1).fill("brightness p90")
            pin = page.locator("#statistics-rows tr", has_text="image.brightness").get_by_role("button")
            pin.click()
            page.locator("#pinned .uplot").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        document = caller.document()
        command = [sys.executable, "-m", "edgeward", "drift", "report", "--address"]
        report = subprocess.run(
            [*command, gateway.http.removeprefix("http://")], env=environment(tmp_path), capture_output=True, text=True
        )
        assert document["labels"]["models"][0]["errors"]["wrong_rows"] > 0
        for wanted in ("tag segment = night", "9 taken for 4", "95 % of requests within", "tried here"):
            assert wanted in report.stdout, report.stdout + report.stderr


def test_where_the_input_changed_the_verdict_names_that(
    tmp_path: Path, run: tuple[str, ...], rows: tuple[np.ndarray, np.ndarray]
) -> None:
    images, truth = rows
    with started(tmp_path, *run) as gateway, ExitStack() as stack:
        caller = Caller(tmp_path, gateway, stack)
        names = [caller.ask(1 - images) for _ in range(5)]  # a window closes at once when it holds 2,048 rows
        for one in names:
            caller.label(one, truth)
        wait_until(lambda: any(one["is_drifting"] for one in caller.document()["models"]))
        document = caller.document()
        (inputs,), (labelled,) = document["models"], document["labels"]["models"]
        assert labelled["labels"] > LEARN_LABELS
        found = labelled["verdict"]
        named = next(one for one in inputs["verdicts"] if f"{one['feature']} drifts too" in found["detail"])
        assert named["role"] == "input"
        assert (found["suspect"], found["next"]) == (named["suspect"], named["next"])
        assert inputs["estimate"]["rows"] >= 2048
        assert inputs["estimate"]["accuracy"] < inputs["estimate"]["sample_accuracy"]
        assert "only labels show it" in inputs["estimate"]["assumptions"]

"""Labels reach a real gateway's drift document, metrics and page: calm; what is right changes; it is killed; inputs change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from tests.browser import browsing, page_at
from tests.programs import PATIENCE_S, Program, started

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

    def ask(self, images: np.ndarray) -> list[str]:
        names = []
        for first in range(0, len(images), ROWS):
            names.append(f"request-{self.asked}")
            self.asked += 1
            self.client.infer(InferenceRequest("digits", {"image": images[first : first + ROWS]}, id=names[-1]))
        time.sleep(1)  # answers are written down every quarter second
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as running:
        yield running


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

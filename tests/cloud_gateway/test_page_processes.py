"""The pages of real programs in a real browser: a canary of the digits rolled back by the button, drift seen on both pages."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.bundle.writing import pack
from runtime.client import connect
from tests.browser import page_at, shoot
from tests.programs import calibrate, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PORTS = ("--grpc-port", "0", "--http-port", "0")
PLAN = {"model": "digits", "stable": 1, "candidate": 2, "stages": [40, 100], "hold_s": 3600}
ROWS = 750


@pytest.fixture
def second(tmp_path: Path) -> Bundle:
    """The digits once more, as version 2."""
    folder = tmp_path / "second"
    shutil.copytree(shipped_bundles()["digits"], folder)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 2}))
    calibrate(folder)
    return read_bundle(folder)


@pytest.fixture(autouse=True)
def every_row_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a busy second is sampled, and how many rows a window holds would depend on the machine's speed."""
    monkeypatch.setenv("EDGEWARD_MONITOR_ROWS_PER_S", "1000000000")


def inverted_digits() -> np.ndarray:
    samples = read_bundle(shipped_bundles()["digits"]).samples()
    assert samples is not None
    return 1 - np.resize(samples.inputs["image"], (ROWS, 1, 8, 8))


def test_a_canary_is_rolled_back_by_the_button_of_the_page(browser: Any, second: Bundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    images = inverted_digits()
    with started(home, "gateway", "run", "digits", *PORTS) as gateway:
        key = read_admin_key(admin_key_file(home))
        with (
            AdminClient(gateway.admin.removeprefix("http://"), key) as admin,
            connect(gateway.grpc) as client,
            page_at(browser, f"{gateway.admin}/") as page,
        ):

            def versions() -> set[str]:
                asked = ({"routing_key": f"user-{number}"} for number in range(60))
                return {client.predict("digits", images[:1], parameters=one).version for one in asked}

            admin.upload("/admin/registry", pack(second, tmp_path / "packed.tar"))
            page.locator("#answer-health", has_text="Yes.").wait_for()
            page.locator("#answer-release", has_text="No new version is on trial.").wait_for()
            admin.post("/admin/releases", {"plan": PLAN})
            assert versions() == {"1", "2"}
            page.locator("#answer-release", has_text="digits: 1 → 2 gets 40 % of the traffic: ").wait_for()
            release = page.locator("#releases article")
            release.get_by_text("running", exact=True).wait_for()
            shoot(page, "gateway-release")
            assert release.locator("dl").count() == 0, "nothing but what has words"
            assert release.locator(".steps li").all_inner_texts() == ["40 %", "100 %"]
            release.get_by_role("button", name="Roll back").click()
            page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
            page.get_by_label("It is kept until this tab closes.").fill(key)
            page.keyboard.press("Enter")
            release.get_by_text("rolled back", exact=True).wait_for()
            assert admin.get("/admin/releases/digits")["status"] == "rolled_back"
            assert versions() == {"1"}
            assert release.get_by_role("button").count() == 0, "it is over"
            page.locator("#decision-log", has_text="rollback").wait_for()
            page.locator("#answer-release", has_text="Rolled back. digits: 1 → 2, ").wait_for()
            page.locator("#answer-decisions", has_text="by a person: rolled back by hand.").wait_for()
            page.locator("#answer-health", has_text="Yes.").wait_for()

            for _ in range(3):  # a window closes at once when it holds 2,048 rows
                client.predict("digits", images)
            drift = page.locator("#drift-findings article", has_text="digits 1")
            drift.get_by_text("drift", exact=True).wait_for()
            drift.get_by_text("image.brightness").first.wait_for()
            page.locator("#answer-drift", has_text="No. digits 1, since ").wait_for()
            page.locator("#answer-drift", has_text="Next: ").wait_for()
            page.locator("#answer-health", has_text="It runs, but look: the input of digits 1 has changed.").wait_for()
            shoot(page, "gateway-drift")


def test_an_agents_page_shows_drift(browser: Any, tmp_path: Path) -> None:
    with (
        started(tmp_path, "agent", "run", "digits", *PORTS) as agent,
        connect(agent.grpc) as client,
        page_at(browser, f"{agent.http}/edgeward/") as page,
    ):
        page.locator("#drift-findings", has_text="No model has been watched yet.").wait_for()
        images = inverted_digits()
        for _ in range(3):
            client.predict("digits", images)
        drift = page.locator("#drift-findings article", has_text="digits 1")
        drift.get_by_text("drift", exact=True).wait_for()
        drift.get_by_text("image.brightness").first.wait_for()
        page.locator("#answer-drift", has_text="No. digits 1, since ").wait_for()
        page.locator("#answer-health", has_text="It runs, but look: the input of digits 1 has changed.").wait_for()
        shoot(page, "agent-drift")

"""The page on which people answer, of a real gateway in a real browser: two people, their keys, pictures and tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.admin.reviewers import make_key
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.client import connect
from runtime.errors import UnauthenticatedError
from runtime.wire.values import InferenceRequest
from tests.browser import page_at, shoot
from tests.cloud_gateway.bundles import make_bundle, row
from tests.programs import Program, calibrate, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

AUTOMATION = """
[[automation]]
model = "{model}"
start_level = "shadow"
second_opinion_share = {second_opinion_share}
"""
PORTS = ("--grpc-port", "0", "--http-port", "0")


@pytest.fixture
def digits() -> np.ndarray:
    samples = read_bundle(shipped_bundles()["digits"]).samples()
    assert samples is not None
    return samples.inputs["image"]


@contextmanager
def gateway(home: Path, model: str, settings: str) -> Iterator[tuple[Program, AdminClient]]:
    config = home / "gateway.toml"
    config.write_text(settings)
    with started(home, "gateway", "run", model, *PORTS, "--config", str(config)) as program:
        key = read_admin_key(admin_key_file(home))
        with AdminClient(program.admin.removeprefix("http://"), key) as admin:
            yield program, admin


def test_two_people_answer_with_keys_of_their_own(browser: Any, digits: np.ndarray, tmp_path: Path) -> None:
    people = {name: make_key(name) for name in ("ann", "bob")}
    reviewers = "".join(
        f'[[reviewers]]\nname = "{name}"\nsha256 = "{kept.sha256}"\n' for name, (_, kept) in people.items()
    )
    settings = AUTOMATION.format(model="digits", second_opinion_share=1.0) + reviewers
    with gateway(tmp_path, "digits", settings) as (program, admin), connect(program.grpc) as client:
        for image in digits[:3]:
            client.infer(InferenceRequest("digits", {"image": image[None]}))
        first, *_ = admin.get("/admin/reviews")["items"]
        assert first["labels"] == [str(number) for number in range(10)]
        assert (first["suggestion"], first["wants"]) == (None, 2)

        def waiting(name: str) -> int:
            with AdminClient(program.admin.removeprefix("http://"), people[name][0]) as own:
                return int(own.get("/admin/reviews")["waiting"])

        def opened(page: Any, name: str) -> Any:
            page.get_by_label("It is kept until this tab closes.").fill(people[name][0])
            page.keyboard.press("Enter")
            page.get_by_text("3 waiting").wait_for()
            return page.locator(f"[data-item='{first['id']}']")

        with page_at(browser, f"{program.admin}/review") as hers, page_at(browser, f"{program.admin}/review") as his:
            own, other = opened(hers, "ann"), opened(his, "bob")
            own.get_by_role("img", name="image").wait_for()
            assert hers.evaluate("document.querySelector('img.exhibit').naturalWidth") == 8
            shoot(hers, "digits")
            hers.set_viewport_size({"width": 390, "height": 800})
            assert hers.evaluate("document.documentElement.scrollWidth") <= 390
            hers.keyboard.press("j")
            own.wait_for(state="detached")
            hers.keyboard.press("k")
            own.wait_for()
            hers.keyboard.press("1")
            own.wait_for(state="detached")
            hers.get_by_text("2 waiting").wait_for()
            assert other.is_visible(), "a second opinion is still wanted"
            his.get_by_text("3 waiting").wait_for()
            assert (waiting("ann"), waiting("bob"), admin.get("/admin/reviews")["waiting"]) == (2, 3, 3)
            assert admin.get(f"/admin/reviews/{first['id']}")["opinions"] == 1
            assert admin.get(f"/admin/reviews/{first['id']}/input")["tensors"][0]["images"]

            other.get_by_role("button", name="8").click()
            other.wait_for(state="detached")
            his.get_by_text("2 waiting").wait_for()
            assert hers.evaluate("JSON.stringify(localStorage)").count(people["ann"][0]) == 0
        done = admin.get(f"/admin/reviews/{first['id']}")
        assert (done["opinions"], done["is_open"], done["answer"]) == (2, False, 1)
        assert admin.get(f"/admin/reviews/{first['id']}/input") == {"tensors": []}, (
            "kept no longer than it is asked about"
        )
        (standing,) = admin.get("/admin/automation")["standings"]
        assert (standing["compared_with_people"], standing["human_loss"]) == (1, 1.0), "they disagree"

        with pytest.raises(UnauthenticatedError, match="reviewers of this gateway have keys of their own"):
            admin.post(f"/admin/reviews/{first['id']}/answer", {"answer": 1, "reviewer": "ann"})
        with (
            AdminClient(program.admin.removeprefix("http://"), people["ann"][0]) as ann,
            pytest.raises(UnauthenticatedError, match="and nothing else"),
        ):
            ann.post("/admin/automation/digits/level", {"level": "full"})


def test_without_keys_a_name_is_asked_once_and_rows_are_answered_in_turn(browser: Any, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "small", 1)
    calibrate(bundle.root)
    settings = AUTOMATION.format(model="small", second_opinion_share=1e-9)
    with gateway(tmp_path, str(bundle.root), settings) as (program, admin), connect(program.grpc) as client:
        for rows in (1, 2):
            client.infer(InferenceRequest("small", row(rows=rows)))
        single, double = (one["id"] for one in admin.get("/admin/reviews")["items"])
        with page_at(browser, f"{program.admin}/review") as page:
            page.get_by_label("Your name.").fill("ann")
            page.keyboard.press("Enter")
            page.get_by_text("2 waiting").wait_for()
            item = page.locator(f"[data-item='{single}']")
            item.get_by_role("columnheader", name="3").wait_for()
            assert "1" in item.get_by_role("cell").all_inner_texts()
            page.keyboard.press("2")
            page.get_by_label("It is kept until this tab closes.").fill(read_admin_key(admin_key_file(tmp_path)))
            page.keyboard.press("Enter")
            item.wait_for(state="detached")
            page.reload()
            page.get_by_text("Row 1 of 2").wait_for()
            assert page.get_by_role("dialog").count() == 0, "known in this tab"
            page.keyboard.press("0")
            page.get_by_text("so far 0").wait_for()
            shoot(page, "table")
            page.keyboard.press("1")
            page.get_by_text("Nothing is waiting for you.").wait_for()
        answers = [admin.get(f"/admin/reviews/{item}")["answer"] for item in (single, double)]
        assert answers == [2, [0, 1]]

"""A release on the gateway's page in a real browser: what it shows, and what its buttons do with a key and a confirmation."""

from collections.abc import Iterator
from typing import Any

import pytest

from cloud_gateway.release.shadow_report import Agreement, ShadowReport, SideBySide
from tests.browser import page_at
from tests.cloud_gateway.served_page import AFTER, HOSTILE, KEY, Gateway, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving(Gateway()) as served:
        yield served


def test_a_rollback_asks_for_the_key_and_for_a_confirmation_and_is_done(browser: Any, gateway: Gateway) -> None:
    with page_at(browser, gateway.url) as page:
        page.get_by_role("button", name="Roll back").click()
        dialog = page.get_by_role("dialog")
        assert "sends all requests to the previous version" in dialog.inner_text()
        dialog.get_by_role("button", name="Cancel").click()
        dialog.wait_for(state="detached")
        assert gateway.asked == []

        page.get_by_role("button", name="Roll back").click()
        page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        page.get_by_label("It is kept until this tab closes.").fill(KEY)
        page.keyboard.press("Enter")
        page.locator("#releases").get_by_text("rolled back").wait_for()
        assert gateway.asked == [(HOSTILE, "rollback", {})]
        assert page.get_by_role("button", name="Roll back").count() == 0, "it is over"
        assert page.evaluate("sessionStorage.getItem('edgeward.key')") == KEY
        assert page.evaluate("JSON.stringify(localStorage)").count(KEY) == 0


def test_every_control_of_a_release_says_what_it_does_and_is_reached_by_keyboard(
    browser: Any, gateway: Gateway
) -> None:
    with page_at(browser, gateway.url) as page:
        page.evaluate("key => sessionStorage.setItem('edgeward.key', key)", KEY)
        page.reload()
        page.locator("#releases").get_by_role("button", name="Pause").focus()
        page.keyboard.press("Enter")
        gateway.in_stage_s = 14.0  # what stands behind the dialog is drawn anew
        page.get_by_text("in this stage for 14 s").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert gateway.asked == []
        assert page.evaluate("document.activeElement.textContent") == "Pause", "where one was"
        for name, effect in (
            ("Promote", "takes the next stage now"),
            ("Pause", "keeps the split as it is"),
            ("Resume", "lets the guards decide again"),
            ("Abort", "all requests go to the stable version"),
        ):
            page.locator("#releases").get_by_role("button", name=name, exact=True).focus()
            page.keyboard.press("Enter")
            assert effect in page.get_by_role("dialog").inner_text()
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.get_by_text(f"{name}: done.").wait_for()
            page.locator("#releases .pill", has_text=AFTER[name.lower()]).first.wait_for()
        assert [action for _, action, _ in gateway.asked] == ["promote", "pause", "resume", "abort"]


def test_a_wrong_key_is_refused_by_the_server_and_asked_for_again(browser: Any, gateway: Gateway) -> None:
    with browser.new_context() as context:  # the browser itself notes the 401 in its console
        page = context.new_page()
        page.goto(gateway.url)
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        page.get_by_label("It is kept until this tab closes.").fill("not-the-key-of-anybody")
        page.keyboard.press("Enter")
        page.get_by_text("that is not this gateway's admin key").wait_for()
        assert gateway.asked == []


def test_it_says_how_many_requests_wait_for_a_person_and_where_they_are_answered(
    browser: Any, gateway: Gateway
) -> None:
    with page_at(browser, gateway.url) as page:
        page.locator("#reviews").get_by_text("3 requests wait for a person.").wait_for()
        assert page.get_by_role("link", name="Answer them").get_attribute("href") == "review"
        gateway.waiting.clear()
        page.locator("#reviews").get_by_text("Nothing is waiting.").wait_for()


def test_a_shadow_is_shown_beside_stable(browser: Any, gateway: Gateway) -> None:
    night = SideBySide(Agreement(40, 30, 0.5), Agreement(), {"4>9": 10}, candidate_errors=2)
    report = ShadowReport(SideBySide(Agreement(1000, 990, 5.0), Agreement(100, 99, 0.1)), {"night": night})
    gateway.shadow = {"strategy": "shadow", "shadow": report.describe()}
    with page_at(browser, gateway.url) as page:
        page.locator("#answer-release", has_text="1 → 2 answers unseen beside stable: too little").wait_for()
        rows = page.locator("#releases table", has_text="answered by both").locator("tbody tr")
        assert rows.nth(0).inner_text().split("\t") == ["all", "1,000", "99 %", "99 %", "0", "–", "–", "–"]
        assert rows.nth(1).inner_text().split("\t") == ["night", "40", "75 %", "–", "2", "–", "–", "4 → 9: 10"]

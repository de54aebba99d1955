"""The gateway's page in a real browser: live numbers, first lines, hostile names, pins, report, themes, keyboard."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import page_at, until
from tests.cloud_gateway.served_page import FOUND, HOSTILE, Gateway, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving(Gateway()) as served:
        yield served


def test_it_loads_and_updates_live(browser: Any, gateway: Gateway) -> None:
    with page_at(browser, gateway.url) as page:
        page.get_by_text("live", exact=True).wait_for()
        page.locator("#answer-health", has_text="requests/s").wait_for()
        until(page, "document.querySelectorAll('.uplot').length >= 2")
        row = page.locator("#statistics-rows tr", has_text="edgeward_inferences_total per_s").locator("td").nth(2)
        until(page, "document.querySelector('#statistics-rows').textContent.includes('/s')")
        assert re.fullmatch(r"[\d.]+/s", row.inner_text())
        release = page.locator("#releases").inner_text()
        assert page.locator("#releases .steps li").all_inner_texts() == ["1 %", "5 %", "25 %", "100 %"]
        assert "The candidate gets 5 % of the traffic, in this stage for 12 s." in release
        assert "Stable answered 17 requests while this gateway could not know what was decided." in release
        for raw in ("1795720875642", "unix", "decided us", "fenced"):
            assert raw not in release.replace(",", ""), "what has no words of the page's is not shown"
        gateway.status = "paused"
        page.locator("#releases").get_by_text("paused").wait_for()
        gateway.drift_fails = True
        page.locator("#drift").get_by_text("the disk of the drift report is full; make room").wait_for()
        page.locator("#answer-drift", has_text="Not known. the disk").wait_for()
        page.locator("#answer-health", has_text="“Is the input still the same?” has no answer").wait_for()
        assert "brightness" not in page.locator("#drift").inner_text()


def test_the_first_lines_answer_every_question_and_agree_with_each_other(browser: Any) -> None:
    gateway = Gateway(found=[], status="promoted")

    def answers(*expected: str) -> None:
        for name, words in zip(("health", "release", "drift", "automation", "decisions"), expected, strict=True):
            page.locator(f"#answer-{name}", has_text=words).wait_for()

    levels = "People. " + HOSTILE + " in night: people, who see what the model suggests."
    advanced = re.compile(r"Stage advanced of .*, by guards: ")
    with serving(gateway), page_at(browser, gateway.url) as page:
        answers("Yes. Now: ", "Promoted.", "Yes.", levels + " 3 requests wait for a person.", advanced)
        assert page.locator("#answer-health").inner_text().endswith("no errors.")

        gateway.found.extend({**FOUND, "feature": name} for name in ("brightness", "contrast", "blur", "noise"))
        gateway.status = "running"
        gateway.waiting.clear()
        answers(
            f"It runs, but look: the input of {HOSTILE} 1 has changed. Now: ",
            f"Not known yet. {HOSTILE}: 1 → 2 gets 5 % of the traffic: too little is known.",
            "brightness: covariate shift; 3 more features changed. Next: look at the camera.",
            levels,
            advanced,
        )
        assert page.locator("#answer-drift").inner_text().startswith(f"No. {HOSTILE} 1, since ")
        card = page.locator("#drift-findings article")
        assert card.locator("tbody").first.locator("tr").count() == 3
        assert not card.get_by_text("This holds while nothing else changes.").is_visible(), "folded"
        card.get_by_text("97 % right").click()
        card.get_by_text("This holds while nothing else changes.").wait_for()

        gateway.found.clear()
        gateway.status = "rolled_back"
        gateway.acted_at = time.time()
        answers("Yes. Now: ", f"Rolled back. {HOSTILE}: 1 → 2: the guards", "Yes.", levels, "Rollback of m, ")
        assert "by a person" not in page.locator("#answer-decisions").inner_text()
        assert page.locator("#summary .bad").all_inner_texts() == ["Rolled back."]


def test_where_devices_keep_rows_to_themselves_it_answers_as_far_as_may_be_known(browser: Any) -> None:
    with serving(Gateway(found=[], calm="not known", before=None)) as gateway, page_at(browser, gateway.url) as page:
        page.locator("#answer-drift", has_text="As far as may be known.").wait_for()
        page.locator("#drift-findings .pill", has_text="not known of every device").wait_for()
        page.locator("#answer-health", has_text="Yes.").wait_for()
        heads = page.locator("#drift-findings table.narrow th").all_inner_texts()
        assert heads == ["class", "of the answers"], "nothing is said of samples where nothing is known of them"


@pytest.mark.parametrize("width", [700, 1280])
def test_a_line_leads_to_its_section_whose_title_is_then_in_sight(browser: Any, gateway: Gateway, width: int) -> None:
    with page_at(browser, gateway.url, viewport={"width": width, "height": 500}, reduced_motion="reduce") as page:
        until(page, "document.querySelectorAll('.uplot').length >= 2")
        for link in page.locator("#summary a").all():
            link.focus()
            page.keyboard.press("Enter")
            title = page.get_by_role("heading", name=link.text_content(), exact=True)
            # The last sections may end before the screen does.
            until(page, f"location.hash === '{link.get_attribute('href')}'")
            page.wait_for_timeout(100)
            place, bar = title.bounding_box(), page.locator("header").bounding_box()
            assert bar["y"] == 0
            assert bar["height"] <= place["y"] <= 450, link.text_content()


def test_a_calm_chart_says_none_and_names_break_where_words_end(browser: Any, gateway: Gateway) -> None:
    with page_at(browser, gateway.url, viewport={"width": 390, "height": 800}) as page:
        page.locator("[aria-label='Errors per second'] .empty", has_text=re.compile("^none$")).wait_for()
        page.locator("[aria-label='Busy cores'] .empty", has_text="nothing yet").wait_for()
        name = page.locator("#statistics-rows code", has_text="edgeward_request_duration_seconds").first
        assert name.inner_html().startswith("edgeward_<wbr>request_<wbr>duration_<wbr>seconds{<wbr>model=")
        rows = page.locator("#drift-findings table.narrow tbody tr")
        assert rows.count() == 10
        one_line = page.locator("#drift-findings table.narrow thead tr").bounding_box()["height"]
        assert all(row.bounding_box()["height"] < 2 * one_line for row in rows.all()), "a class is a line"


def test_a_peak_of_one_second_is_seen_in_a_day(browser: Any) -> None:
    gateway = Gateway()
    now = int(time.time())
    name = 'edgeward_queue_rows{model="m",version="1",role="stable",served_by="cloud"}'
    for second in range(now - 6 * 3600, now - 60):
        gateway.recorder.history.add({name: 500.0 if second == now - 3 * 3600 else 2.0}, second)
    chart = "document.querySelector('[aria-label=\"Rows waiting\"]').chart"
    with serving(gateway), page_at(browser, gateway.url) as page:
        page.locator("[aria-label='Rows waiting'] canvas").wait_for()
        assert page.evaluate(f"{chart}.plot.bands.length") == 0, "a second is its own peak"
        page.get_by_role("button", name="24 h").click()
        until(page, f"{chart}.plot.bands.length === {chart}.lines.length")
        until(page, f"{chart}.plot.scales.y.max > 500")
        means, peaks = page.evaluate(
            f"[Math.max(...{chart}.data[1]), Math.max(...{chart}.data[{chart}.lines.length + 1])]"
        )
        assert peaks == 500
        assert 2 < means < 20
        assert page.evaluate(f"{chart}.data[0].length") > 300, "a point a minute"
        # No row of its own in the legend, but told beside the mean.
        peak = page.locator("[aria-label='Rows waiting'] .u-legend .peak").first
        assert not peak.is_visible()


def test_a_lone_request_in_a_calm_hour_is_seen(browser: Any) -> None:
    gateway = Gateway()
    now = int(time.time())
    seldom = 'edgeward_queue_rows{model="seldom",version="1",role="stable",served_by="cloud"}'
    for second in range(now - 300, now - 60):
        gateway.recorder.history.add({seldom: 9.0} if second == now - 200 else {"edgeward_ready": 1.0}, second)
    with serving(gateway), page_at(browser, gateway.url) as page:
        # Of the nine pixels where the point has to be, those that are not clear.
        until(
            page,
            f"""(() => {{
                const {{ plot, data, lines }} = document.querySelector('[aria-label="Rows waiting"]').chart;
                const line = lines.findIndex((one) => one.name.includes("seldom")) + 1;
                const value = data[line]?.[data[0].indexOf({now - 200})];
                if (!plot || !line || value !== 9) return false;
                const x = Math.round(plot.valToPos({now - 200}, "x", true)), y = Math.round(plot.valToPos(9, "y", true));
                const colours = plot.ctx.getImageData(x - 1, y - 1, 3, 3).data;
                return colours.filter((value, index) => index % 4 === 3 && value > 200).length >= 6;
            }})()""",
        )


def test_names_from_strangers_are_text_everywhere(browser: Any, gateway: Gateway) -> None:
    with page_at(browser, gateway.url) as page:
        for place in ("#summary", "#models", "#releases", "#drift-findings", "#decision-log", "#statistics-rows"):
            page.locator(place, has_text="<img src=x").wait_for()
        until(page, "document.querySelectorAll('.uplot').length >= 2")
        pin = page.locator("#statistics-rows tr", has_text="queue_rows").get_by_role("button")
        pin.click()
        page.locator("#pinned .uplot").wait_for()
        assert page.evaluate("window.broken") is None
        assert page.locator("main img, main script").count() == 0


def test_pins_and_theme_survive_a_reload(browser: Any, gateway: Gateway) -> None:
    with page_at(browser, gateway.url, color_scheme="light") as page:
        page.get_by_label("Find").nth(1).fill("queue_rows")
        page.locator("#statistics-rows button").click()
        page.locator("#pinned figure").wait_for()
        page.get_by_role("button", name="Switch to the dark theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
        page.reload()
        page.locator("#pinned .uplot").wait_for()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
        page.get_by_role("button", name="Unpin").click()
        page.locator("#pinned figure").wait_for(state="detached")


def test_what_moved_before_the_system_acted_is_listed_first(browser: Any) -> None:
    now = int(time.time())
    gateway = Gateway(acted_at=now - 1800)
    moved, calm = 'edgeward_errors_total{error="ExecutionError"} per_s', 'edgeward_cache_hits_total{model="a"} per_s'
    for second in range(now - 3 * 3600, now - 60):
        is_before = now - 2000 < second < now - 1800
        gateway.recorder.history.add({calm: 5.0, moved: 40.0 if is_before else 1.0}, second)
    with serving(gateway), page_at(browser, gateway.url) as page:
        page.get_by_text("ranked by 1 action of the system").wait_for()
        first = page.locator("#statistics-rows tr").first
        assert moved in first.inner_text()
        assert "1 of 1" in first.inner_text()
        assert "1 of 1" not in page.locator("#statistics-rows tr", has_text="cache_hits").inner_text()


def test_a_gateway_that_comes_back_is_live_again(browser: Any) -> None:
    gateway = Gateway()
    with browser.new_context() as context:  # the browser notes in its console what it cannot reach
        page = context.new_page()
        with serving(gateway):
            page.goto(gateway.url)
            page.get_by_text("live", exact=True).wait_for()
        page.get_by_text("not connected", exact=True).wait_for()
        page.locator("#answer-health", has_text="Not known. This page is not connected").wait_for()
        port = int(gateway.url.rstrip("/").rpartition(":")[2])
        with serving(Gateway(status="paused"), port=port):
            page.get_by_text("live", exact=True).wait_for()
            page.locator("#releases").get_by_text("paused", exact=True).wait_for()


def test_the_report_is_one_file_that_needs_nothing(browser: Any, gateway: Gateway, tmp_path: Path) -> None:
    with page_at(browser, gateway.url) as page:
        until(page, "document.querySelectorAll('.uplot').length >= 2")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Report").click()
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
    assert re.fullmatch(r"edgeward-report-\d{8}-\d{6}\.html", file.name)
    with page_at(browser, file.as_uri()) as page:
        text = page.locator("body").inner_text()
        for wanted in ("brightness", "too little is known", "edgeward_queue_rows", "Automation", "not proven", HOSTILE):
            assert wanted in text
        assert page.locator("svg path").count() >= 2
        assert page.evaluate("window.broken") is None


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_and_everything_is_reached_by_keyboard(browser: Any, gateway: Gateway, width: int) -> None:
    with page_at(browser, gateway.url, viewport={"width": width, "height": 800}) as page:
        until(page, "document.querySelectorAll('.uplot').length >= 2")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        buttons = page.evaluate("document.querySelectorAll('button:not([disabled])').length")
        reached = page.evaluate(
            "[...document.querySelectorAll('button:not([disabled])')].filter(b => b.tabIndex === 0).length"
        )
        assert buttons == reached > 8
        unnamed = (
            "[...document.querySelectorAll('button, input')].filter(e => !e.textContent && !e.labels?.length).length"
        )
        assert page.evaluate(unnamed) == 0


def test_parts_that_are_missing_are_said_to_be(browser: Any) -> None:
    with serving(Gateway(), is_bare=True) as bare, page_at(browser, bare.url) as page:
        for place in ("#releases", "#drift-findings", "#levels", "#reviews", "#decision-log"):
            page.locator(place, has_text="Not set up.").wait_for()
        page.locator("#answer-health", has_text="Yes.").wait_for()
        assert page.locator("#summary dd", has_text="Not set up.").count() == 4
        assert "not set up" in httpx.get(f"{bare.url}page/report").text

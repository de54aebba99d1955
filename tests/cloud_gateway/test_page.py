"""The gateway's page in a real browser: live numbers, hostile names, a rollback, pins, report, themes."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.admin.server import admin_server
from cloud_gateway.page import REVIEW_PATH, gateway_page, page_routes
from cloud_gateway.release.shadow_report import Agreement, ShadowReport, SideBySide
from runtime.errors import StorageError
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import LATENCY_BOUNDS_NS, Histogram
from runtime.telemetry.history_recorder import HistoryRecorder
from tests.browser import browsing, page_at, until

KEY = "edgeward_admin_of-these-tests-alone-0123456789"
PATIENCE_S = 20
AFTER = {"promote": "running", "pause": "paused", "resume": "running", "abort": "aborted", "rollback": "rolled_back"}
FOUND = {
    "since": 1_700_000_000.0,
    "size": "ks 0.4",
    "kind": "covariate shift",
    "detail": "",
    "next": "look at the camera",
}
HOSTILE = '<img src=x onerror="window.broken=1">"><script>window.broken=1</script>'

pytestmark = pytest.mark.slow


@dataclass
class Gateway:
    """What the page is told, and what it asked for: changed by tests while the page is open."""

    url: str = ""
    answered: int = 0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    status: str = "running"
    in_stage_s: float = 12.0
    shadow: dict[str, Any] = field(default_factory=dict)
    acted_at: float | None = None
    """When the system last did something by itself."""
    waiting: list[str] = field(default_factory=lambda: ["r1", "r2", "r3"])
    found: list[dict[str, Any]] = field(default_factory=lambda: [{**FOUND, "feature": "brightness"}])
    """What drifts."""
    drift_fails: bool = False
    histogram: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_NS))
    recorder: HistoryRecorder = field(default_factory=HistoryRecorder)

    async def models(self) -> Mapping[str, Any]:
        model = {
            "name": HOSTILE,
            "version": 1,
            "backend": "int8.onnx on onnxruntime-cpu",
            "why": HOSTILE,
            "row_ms": 0.2,
        }
        return {"models": [model]}

    async def releases(self) -> Mapping[str, Any]:
        finding = {"metric": "error", "segment": "", "test": "betting", "stable_count": 900, "candidate_count": 100}
        numbers = {
            "stable_estimate": 0.01,
            "candidate_estimate": 0.02,
            "difference": 0.01,
            "lower": -0.01,
            "upper": 0.03,
        }
        verdict = {
            "action": "hold",
            "reason": "too little is known",
            "needed": 420,
            "findings": [{**finding, **numbers}],
        }
        release = {"model": HOSTILE, "stable": 1, "candidate": 2, "strategy": "canary", "status": self.status}
        release |= {"share": 0.05, "in_stage_s": self.in_stage_s, "began_unix_ms": 1_795_720_875_642}
        arm = {"requests": 72, "errors": 3, "p50_ms": 0.9, "p99_ms": 5.0}
        release |= {"arms": {"stable": arm, "candidate": arm | {"requests": 8}}, "reason": "the guards did not object"}
        release |= {
            "decided_unix_us": None,
            "switched_unix_us": 1_795_720_875_642_000,
            "fenced_answers": 17,
        } | self.shadow
        return {"releases": [{**release, "stage": 1, "stages": [1, 5, 25, 100], "verdict": verdict}]}

    async def drift(self) -> Mapping[str, Any]:
        if self.drift_fails:
            raise StorageError("the disk of the drift report is full; make room")
        shares = [{"value": str(number), "share": 0.1, "before": 0.1} for number in range(10)]
        seen = {
            "model": HOSTILE,
            "version": 1,
            "verdict": "drift" if self.found else "none",
            "reason": "2,000 rows seen",
            "estimate": {"said": "97 % right", "assumes": "This holds while nothing else changes"},
            "statistics": {"rows": [], "left_out": 0, "predictions": shares},
        }
        return {"models": [{**seen, "findings": self.found}]}

    async def automation(self) -> Mapping[str, Any]:
        return {"models": [{"model": HOSTILE, "segment": "night", "level": "assist", "reason": "not proven"}]}

    async def reviews(self) -> Mapping[str, Any]:
        return {"waiting": len(self.waiting)}

    async def decisions(self) -> Mapping[str, Any]:
        lines: list[dict[str, Any]] = [
            {"at": time.time() - 30, "what": "stage_advanced", "model": HOSTILE, "reason": HOSTILE, "who": "guards"}
        ]
        if self.acted_at is not None:
            lines.append({"at": self.acted_at, "what": "rollback", "model": "m", "reason": "worse", "is_own": True})
        return {
            "decisions": [*lines, {"unix_ms": 1_700_000_000_000, "event": "started", "document": {"reason": "asked"}}]
        }

    async def release_action(self, request: AdminRequest) -> Mapping[str, Any]:
        self.asked.append((request.path["model"], request.path["action"], await request.json()))
        self.status = AFTER[request.path["action"]]
        return {"status": self.status}

    async def families(self) -> list[Family]:
        self.answered += 7
        self.histogram.add(3_000_000, 7)
        labels = {"model": HOSTILE, "version": "1", "role": "stable", "served_by": "cloud"}
        return [
            Family("edgeward_inferences_total", Kind.COUNTER, "I.", [({}, self.answered)]),
            Family("edgeward_ready", Kind.GAUGE, "R.", [({}, 1)]),
            Family("edgeward_queue_rows", Kind.GAUGE, "Q.", [(labels, 4)]),
            Family("edgeward_request_duration_seconds", Kind.HISTOGRAM, "D.", [(labels, self.histogram.read(1e9))]),
        ]


@contextmanager
def serving(gateway: Gateway, *, is_bare: bool = False, port: int = 0) -> Iterator[Gateway]:
    """The page on an admin port of its own, in a thread; `is_bare`: with no part set up."""
    started = threading.Event()
    stop: list[Any] = []

    async def body() -> None:
        sections = {
            "status": gateway.models,
            "releases": gateway.releases,
            "drift": gateway.drift,
            "automation": gateway.automation,
            "reviews": gateway.reviews,
            "decisions": gateway.decisions,
        }
        page = gateway_page(
            "edgeward-gateway",
            gateway.recorder,
            {} if is_bare else sections,
            release_path=None if is_bare else "/admin/releases/{model}/{action}",
            review_path=None if is_bare else REVIEW_PATH,
        )
        routes = [
            *page_routes(page),
            AdminRoute("POST", "/admin/releases/{model:path}/{action}", gateway.release_action),
        ]
        running = asyncio.create_task(page.run(gateway.families))
        async with admin_server("127.0.0.1", port, routes, AdminKey(KEY)) as at:
            gateway.url = f"http://{at}/"
            stop.extend((asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await stop[1].wait()
            page.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(body(),))
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        yield gateway
    finally:
        stop[0].call_soon_threadsafe(stop[1].set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "open streams held the server up"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as started:
        yield started


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


def test_a_shadow_is_shown_beside_stable(browser: Any, gateway: Gateway) -> None:
    night = SideBySide(Agreement(40, 30, 0.5), Agreement(), {"4>9": 10}, candidate_errors=2)
    report = ShadowReport(SideBySide(Agreement(1000, 990, 5.0), Agreement(100, 99, 0.1)), {"night": night})
    gateway.shadow = {"strategy": "shadow", "shadow": report.describe()}
    with page_at(browser, gateway.url) as page:
        page.locator("#answer-release", has_text="1 → 2 answers unseen beside stable: too little").wait_for()
        rows = page.locator("#releases table", has_text="answered by both").locator("tbody tr")
        assert rows.nth(0).inner_text().split("\t") == ["all", "1000", "99 %", "99 %", "0", "–", "–", "–"]
        assert rows.nth(1).inner_text().split("\t") == ["night", "40", "75 %", "–", "2", "–", "–", "4 → 9: 10"]


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


def test_what_needs_a_key_from_elsewhere_and_what_does_not(gateway: Gateway) -> None:
    foreign = {"host": "evil.example"}
    for path in ("", "page/core.js", "page/uplot.js", "page/uplot.LICENSE"):
        assert httpx.get(gateway.url + path, headers=foreign).status_code == 200
    for path in ("page/events", "page/history", "page/rank", "page/report", "page/options"):
        assert httpx.get(gateway.url + path, headers=foreign).status_code == 401
    assert httpx.get(gateway.url + "page/options", headers={**foreign, "authorization": f"Bearer {KEY}"}).is_success
    html = httpx.get(gateway.url)
    assert html.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert httpx.get(gateway.url, headers={"if-none-match": html.headers["etag"]}).status_code == 304


def test_ten_minutes_are_told_by_the_second(gateway: Gateway) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        told = httpx.get(f"{gateway.url}page/history?series=0&span_s=600").json()
        if len(told["times"]) >= 2 or time.monotonic() > end:
            break
        time.sleep(0.2)
    assert told["step_s"] == 1
    assert len(told["times"]) == len(told["columns"][0][0]) >= 2


def test_history_refuses_what_it_cannot_read(gateway: Gateway) -> None:
    for query, wrong in (("series=9999", "9999"), ("series=x", "x"), ("span_s=0", "0"), ("span_s=1e9", "1e9")):
        refused = httpx.get(f"{gateway.url}page/history?{query}")
        assert refused.status_code == 400
        assert wrong in refused.json()["error"]
    many = ",".join(["0"] * 65)
    assert "at most 64" in httpx.get(f"{gateway.url}page/history?series={many}").json()["error"]


def test_the_stream_is_json_in_events(gateway: Gateway) -> None:
    seen: dict[str, Any] = {}
    with httpx.stream("GET", f"{gateway.url}page/events", timeout=PATIENCE_S) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                seen[kind] = json.loads(line.removeprefix("data: "))
            if {"series", "tick", "section"} <= set(seen) and seen["tick"]["values"]:
                break
    assert len(seen["tick"]["values"]) >= 2
    assert isinstance(seen["tick"]["at"], int)

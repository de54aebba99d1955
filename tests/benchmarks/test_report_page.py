"""The report in a real browser: nothing of it is wider than the page, and every axis says what it shows."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.arrivals import Arrivals
from benchmarks.report import to_html
from benchmarks.scenarios import Kind, Scenario
from tests.benchmarks.made import recording, with_errors
from tests.browser import page_at, shoot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def at_rate(per_s: int) -> Scenario:
    return Scenario(Kind.SERVER, arrivals=Arrivals.parse(f"poisson:{per_s}"))


RECORDINGS = [
    recording("inproc", 7000),
    with_errors(recording("gateway=https://gateway.example:8000", 1500), "503 UNAVAILABLE", 9),
    recording("agent=grpc://127.0.0.1:8001", 50, invalid_reason="the generator is saturated: its own lag is 31.2 ms"),
    *(recording("inproc", 800, at_rate(rate), offered_qps=float(rate)) for rate in (100, 200, 400)),
]


@pytest.mark.parametrize("width", [360, 1280])
def test_the_report_fits_its_page_and_its_axes_have_units(browser: Any, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(to_html(RECORDINGS, slo_ms=5.0), encoding="utf-8")
    with page_at(browser, file.as_uri(), viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.evaluate(
            "[...document.querySelectorAll('svg[role=img] text')].filter(t => t.getClientRects().length && "
            "(t.getBoundingClientRect().left < 0 || t.getBoundingClientRect().right > innerWidth)).map(t => t.textContent)"
        )
        assert outside == []
        shown = page.locator("svg[role=img]:visible")
        assert shown.count() >= 6
        for number in range(shown.count()):
            chart = shown.nth(number)
            words = f"{chart.get_attribute('aria-label')} {' '.join(chart.locator('text').all_text_contents())}"
            assert "ms" in words or "/s" in words, words
        curves = page.locator("svg[role=img]:visible", has_text="log scale")
        for number in range(curves.count()):
            texts = " ".join(curves.nth(number).locator("text").all_text_contents())
            assert any(x in texts for x in ("percentile of requests", "seconds since", "requests a second")), texts


def test_a_dark_page_is_dark_and_what_is_drawn_on_it_light(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(to_html(RECORDINGS, slo_ms=5.0), encoding="utf-8")
    lightness = """of => [...document.querySelectorAll(of[0])].filter(each => each.getClientRects().length).map(each =>
        Math.max(...getComputedStyle(each)[of[1]].match(/[0-9.]+/g).slice(0, 3).map(Number)))"""
    for scheme, is_dark in (("light", False), ("dark", True)):
        with page_at(browser, file.as_uri(), color_scheme=scheme) as page:
            (paper,) = page.evaluate(lightness, ["body", "backgroundColor"])
            assert (paper < 60) == is_dark
            for drawn in (["body", "color"], ["svg text", "fill"], [".line.c0", "stroke"], [".mark.c0", "fill"]):
                found = page.evaluate(lightness, drawn)
                assert found
                assert all((value > 200) == is_dark for value in found), drawn
            if not is_dark:
                shoot(page, "bench-report")

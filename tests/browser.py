"""A real headless Chromium for tests of pages: Debian's, driven by Playwright."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000
SHOTS = os.environ.get("EDGEWARD_TEST_SCREENSHOTS")
"""A folder for pictures of pages, for people to look at."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def browsing() -> Iterator[Any]:
    """A browser; skips with the reason where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra test)")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there; apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_at(browser: Any, url: str, **context: Any) -> Iterator[Any]:
    """The page at `url`, until the block ends.

    Errors in its console fail the test, whatever its policy blocked, and whatever it asks of another server: it works offline.
    """
    complaints: list[str] = []
    home = url.partition("://")[2].partition("/")[0]

    def watch(request: Any) -> None:
        kind, _, rest = request.url.partition("://")
        if kind in ("http", "https") and rest.partition("/")[0] != home:
            complaints.append(f"it asked {request.url}")

    with browser.new_context(**context) as opened:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", watch)
        page.goto(url)
        yield page
        assert complaints == []


def until(page: Any, script: str) -> None:
    """Waits until `script` is true; Playwright's own wait would need the page to allow `eval`, which its policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script):
        assert time.monotonic() < end, f"never true: {script}"
        page.wait_for_timeout(100)


def shoot(page: Any, name: str) -> None:
    """Pictures of the whole page in light, dark and at a phone's width, where a folder is named for them."""
    if not SHOTS:
        return
    size = page.viewport_size
    for kind, scheme, width in (("light", "light", 1100), ("dark", "dark", 1100), ("phone", "dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)  # charts are drawn anew at their width
        page.screenshot(path=f"{SHOTS}/{name}-{kind}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(size)

"""The page in a real browser: first paint on loopback, and charts over a day of one-second data.

    python -m benchmarks.monitoring.page --output page.json

The server is the gateway's admin port in this process, with as many series as a gateway with four models has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import now_utc, read_environment
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.admin.server import admin_server
from cloud_gateway.page import gateway_page, page_routes
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.history_recorder import HistoryRecorder

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
SERIES = 80
DAY_S = 86_400
PAINT_BAR_MS = 300
FRAME_BAR_MS = 33
"""Of 95 % of the frames while a day is on screen: thirty a second, below which scrolling is seen to stutter."""
LOADS = 7
# Frame times while charts of a day are on screen and a second of data arrives every second.
WATCHED_MS = 5_000
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
_FRAMES = """(ms) => new Promise(done => {
  const frames = []; let last = performance.now(); const end = last + ms; let step = 12;
  const next = now => { frames.push(now - last); last = now; scrollBy(0, step);
    if (scrollY + innerHeight >= document.body.scrollHeight - 1 || scrollY === 0) step = -step;
    now < end ? requestAnimationFrame(next) : done(frames); };
  requestAnimationFrame(next);
})"""


@dataclass(frozen=True, slots=True)
class PageResult:
    """Milliseconds, unless the name says otherwise."""

    record_day_s: float
    """Recording a day of seconds, on one core."""
    first_paint_ms: tuple[float, ...]
    day_ms: float
    """From the click on "24 h" until its charts are drawn."""
    day_points: int
    frames_ms: tuple[float, ...]

    @property
    def paint_ms(self) -> float:
        """The median of the loads."""
        return float(np.median(self.first_paint_ms))

    @property
    def frame_p95_ms(self) -> float:
        """What 95 % of the frames stay within."""
        return float(np.quantile(self.frames_ms, 0.95))

    def to_dict(self) -> dict[str, Any]:
        """As JSON, raw times included."""
        bars = {"paint_bar_ms": PAINT_BAR_MS, "frame_bar_ms": FRAME_BAR_MS}
        return {**asdict(self), "paint_ms": self.paint_ms, "frame_p95_ms": self.frame_p95_ms, **bars}

    def __str__(self) -> str:
        paint, frames = np.array(self.first_paint_ms), np.array(self.frames_ms)
        held = "held" if self.paint_ms < PAINT_BAR_MS else "MISSED"
        smooth = "held" if self.frame_p95_ms <= FRAME_BAR_MS else "MISSED"
        return (
            f"recording a day of seconds, {SERIES} series   {self.record_day_s:.1f} s\n"
            f"first paint, {len(paint)} loads   median {np.median(paint):.0f} ms, slowest {paint.max():.0f} ms; "
            f"bar {PAINT_BAR_MS} ms: {held}\n"
            f"a day drawn after {self.day_ms:.0f} ms, from {self.day_points} points a chart\n"
            f"frames while scrolling over it   median {np.median(frames):.1f} ms, p95 {self.frame_p95_ms:.1f} ms, "
            f"slowest {frames.max():.0f} ms; bar for p95 {FRAME_BAR_MS} ms: {smooth}"
        )


def why_not() -> str | None:
    """Why there is nothing to measure with; None: there is."""
    if find_spec("playwright") is None:
        return "missing: Playwright is not installed (extra test)"
    if not Path(CHROMIUM).exists():
        return f"missing: {CHROMIUM} is not there; apt-get install chromium"
    return None


def measure() -> PageResult:
    """Records a day, serves it, and looks at it."""
    from playwright.sync_api import sync_playwright

    recorder = HistoryRecorder()
    began = time.perf_counter()
    now = int(time.time())
    chance = np.random.default_rng(1)
    names = _names()
    for second in range(now - DAY_S, now):
        recorder.history.add(dict(zip(names, chance.random(SERIES).tolist(), strict=True)), second)
    record_day_s = time.perf_counter() - began
    with serving(recorder) as url, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        paints = []
        for _ in range(LOADS):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector(".uplot")
            paints.append(float(page.evaluate(_PAINT)))
            context.close()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_selector(".uplot")
        clicked = time.perf_counter()
        with page.expect_response(lambda reply: f"span_s={DAY_S}" in reply.url) as waiting:
            page.get_by_role("button", name="24 h").click()
        points = len(waiting.value.json()["times"])
        page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
        day_ms = (time.perf_counter() - clicked) * 1e3
        frames = page.evaluate(_FRAMES, WATCHED_MS)
        browser.close()
    return PageResult(record_day_s, tuple(paints), day_ms, points, tuple(frames))


def _names() -> list[str]:
    labels = [f'{{model="m{at}",version="1",role="stable",served_by="cloud"}}' for at in range(4)]
    kinds = ("edgeward_request_duration_seconds", "edgeward_queue_rows")
    shown = [f"edgeward_request_duration_seconds{label} p95" for label in labels]
    shown += [f"edgeward_queue_rows{label}" for label in labels]
    shown += ["edgeward_inferences_total per_s", "edgeward_process_cpu_cores"]
    return shown + [f"{kinds[0]}{labels[at % 4]} other{at}" for at in range(SERIES - len(shown))]


@contextmanager
def serving(recorder: HistoryRecorder) -> Iterator[str]:
    """The page on a free port, in a thread, with new numbers every second; its URL."""
    started = threading.Event()
    found: list[Any] = []

    async def read() -> list[Family]:
        labels = {"version": "1", "role": "stable", "served_by": "cloud"}
        samples = [({"model": f"m{at}", **labels}, random.random()) for at in range(4)]
        return [Family("edgeward_queue_rows", Kind.GAUGE, "Rows.", samples)]

    async def body() -> None:
        page = gateway_page("edgeward-gateway", recorder, {})
        running = asyncio.create_task(page.run(read))
        async with admin_server("127.0.0.1", 0, page_routes(page), AdminKey("a-key-of-this-benchmark")) as at:
            found.extend((f"http://{at}/", asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await found[2].wait()
            page.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(body(),))
    thread.start()
    try:
        started.wait(30)
        yield found[0]
    finally:
        found[1].call_soon_threadsafe(found[2].set)
        thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and saves JSON where --output says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring.page")
    parser.add_argument("--output", type=Path, metavar="FILE", help="save the result as JSON")
    chosen = parser.parse_args(arguments)
    if (missing := why_not()) is not None:
        print(missing, file=sys.stderr)
        return 1
    environment = read_environment()
    result = measure()
    print(result)
    if chosen.output is not None:
        saved = result.to_dict() | {"started": now_utc(), "environment": environment}
        chosen.output.write_text(json.dumps(saved, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

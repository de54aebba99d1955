"""The agent's page, from a real agent in a real browser."""

import socket
from pathlib import Path

import httpx
import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.errors import EdgewardError
from tests.browser import browsing, page_at, until
from tests.programs import started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_who_serves_how_fast_and_why(digits: Bundle, tmp_path: Path) -> None:
    assert digits.manifest is not None
    spec = digits.manifest.inputs[0].spec
    image = np.zeros([max(size, 1) for size in spec.shape], spec.dtype)
    with browsing() as browser:
        with started(tmp_path, "agent", "run", "digits", "--grpc-port", "0", "--http-port", "0") as agent:
            assert httpx.get(f"{agent.http}/edgeward").headers["location"] == "/edgeward/"
            with page_at(browser, f"{agent.http}/edgeward/", viewport={"width": 390, "height": 800}) as page:
                page.locator("#models", has_text=agent.models[0]["backend"]).wait_for()
                page.get_by_text("None: this device answers alone").wait_for()
                page.locator("#drift-findings", has_text="No model has been watched yet.").wait_for()
                with connect(agent.grpc) as client:
                    for _ in range(20):
                        client.predict("digits", image, timeout_s=20)
                    page.locator("#requests-table", has_text="first choice").wait_for()
                    page.locator("[aria-label='Who answers, per second'] canvas").wait_for()
                    client.predict("digits", image, timeout_s=20)
                page.locator("#statistics-told", has_text="this program keeps no log of what it decided").wait_for()
                page.locator("#answer-health", has_text="Yes.").wait_for()
                page.locator("#answer-serving", has_text=f"{agent.models[0]['backend']} answers digits 1: ").wait_for()
                page.locator("#answer-gateway", has_text="This device answers alone").wait_for()
                page.locator("#answer-requests", has_text="The edge, first choice: 21 of 21 requests.").wait_for()
                page.locator("#answer-drift", has_text="Not known yet.").wait_for()
                page.locator("[aria-label='Errors per second']", has_text="none").wait_for()
                assert page.evaluate("document.documentElement.scrollWidth") <= 390
            charted = httpx.get(f"{agent.http}/edgeward/page/history?series=0&span_s=600").json()["times"]
            assert charted
            open_stream = httpx.stream("GET", f"{agent.http}/edgeward/page/events", timeout=20)
            with open_stream as response:
                next(response.iter_lines())
                agent.process.terminate()
                assert agent.process.wait(20) == 0, "an open page must not hold the agent up"
        run = ("agent", "run", "digits", "--grpc-port", "0", "--http-port", "0")
        with started(tmp_path, *run) as again, page_at(browser, f"{again.http}/edgeward/") as page:
            page.locator("#statistics-rows", has_text="first_choice").wait_for()
            told = httpx.get(f"{again.http}/edgeward/page/history?series=0&span_s=600").json()
            assert set(charted) <= set(told["times"]), "the charts survive a restart"


def test_what_waits_and_that_the_breaker_is_open(digits: Bundle, tmp_path: Path) -> None:
    assert digits.manifest is not None
    spec = digits.manifest.inputs[0].spec
    image = np.zeros([max(size, 1) for size in spec.shape], spec.dtype)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        gateway = f"127.0.0.1:{nobody.getsockname()[1]}"
        run = ("agent", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--gateway", gateway)
        with (
            browsing() as browser,
            started(tmp_path, *run) as agent,
            page_at(browser, f"{agent.http}/edgeward/") as page,
        ):
            with connect(agent.grpc) as client:
                client.predict("digits", image, timeout_s=20)
                with pytest.raises(EdgewardError):
                    client.predict("digits", image, timeout_s=5, route="cloud")
                client.submit("nowhere", {"image": image}, key="later")
            for title in ("Rows waiting", BREAKER, KEPT):
                page.locator(f"[aria-label='{title}'] canvas").wait_for()
            page.locator(f"[aria-label='{BREAKER}'] .u-legend", has_text="half_open").wait_for()
            until(page, drawn(BREAKER, "line.labels.state === 'open'", "value === 1"))
            until(page, drawn(KEPT, "true", "value === 1"))
            until(page, drawn("Rows waiting", "line.labels.model === 'digits'", "value === 0"))
            page.locator("#answer-health", has_text=f"Look: the breaker before gateway {gateway} is").wait_for()
            page.locator("#gateway-facts", has_text=gateway).get_by_text("no", exact=True).first.wait_for()


BREAKER = "Breaker: closed, open, half open"
KEPT = "Requests kept on disk for later"


def drawn(title: str, line: str, value: str) -> str:
    """Whether the chart has a point of a line such as `line` whose value is such as `value`, in JavaScript."""
    return f"""(() => {{
        const chart = document.querySelector("[aria-label='{title}']").chart;
        const at = chart.lines.findIndex((line) => {line});
        return at >= 0 && chart.data[at + 1].some((value) => {value});
    }})()"""

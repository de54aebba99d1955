"""What the gateway's page is made of, asked without a browser: who needs a key, the history, the stream of events."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cloud_gateway.served_page import KEY, PATIENCE_S, Gateway, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving(Gateway()) as served:
        yield served


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

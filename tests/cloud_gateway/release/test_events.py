"""The webhook: every event arrives in order, a receiver that is down is tried again, and nobody waits for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from cloud_gateway.release.events import MAX_WAITING, Webhook, event_of

PATIENCE_S = 20


@contextmanager
def receiver(failures: int = 0) -> Iterator[tuple[str, list[dict[str, Any]], threading.Semaphore]]:
    """A URL, the events that came, and a semaphore released for each; the first so many are refused."""
    events: list[dict[str, Any]] = []
    arrived = threading.Semaphore(0)
    left = [failures]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            is_refused = left[0] > 0
            left[0] -= 1
            self.send_response(503 if is_refused else 204)
            self.end_headers()
            if not is_refused:
                events.append(body)
                arrived.release()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", events, arrived
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_events_arrive_in_order() -> None:
    hook = Webhook()
    with receiver() as (url, events, arrived):
        for number in range(5):
            hook.post(url, event_of("advance", "digits", {"number": number}))
        for _ in range(5):
            assert arrived.acquire(timeout=PATIENCE_S)
        hook.close()
    assert [event["number"] for event in events] == [0, 1, 2, 3, 4]
    assert events[0]["event"] == "release.advance"
    assert events[0]["model"] == "digits"
    assert (hook.sent, hook.failed) == (5, 0)


def test_a_receiver_that_is_down_for_a_moment_gets_it_later() -> None:
    pauses: list[float] = []
    hook = Webhook(sleep=pauses.append)
    with receiver(failures=2) as (url, events, arrived):
        hook.post(url, event_of("rollback", "digits", {}))
        assert arrived.acquire(timeout=PATIENCE_S)
        hook.close()
    assert len(events) == 1
    assert len(pauses) == 2


def test_one_that_stays_down_is_given_up_on_and_said(caplog: Any) -> None:
    hook = Webhook(sleep=lambda _: None)
    with receiver(failures=100) as (url, _, _):
        hook.post(url, {"event": "x"})
        hook.close(PATIENCE_S)
    assert (hook.sent, hook.failed) == (0, 1)
    assert "did not take an event" in caplog.text


def test_too_many_events_are_counted_and_nobody_waits() -> None:
    gate = threading.Event()
    hook = Webhook(sleep=lambda _: gate.wait(PATIENCE_S))
    with receiver(failures=1) as (url, _, _):
        for _ in range(MAX_WAITING + 10):
            hook.post(url, {"event": "x"})
        assert 8 <= hook.failed <= 10
        gate.set()
        hook.close(PATIENCE_S)

"""Statistics leave within a budget, later when the gateway is away, once each, and never as rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from edge_agent.telemetry import MAX_DRIFTING, MAX_WAITING, Telemetry
from edge_agent.telemetry_metrics import telemetry_metrics
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    InvalidInputError,
    OverloadedError,
    PeerUnreachableError,
    UnauthenticatedError,
)
from runtime.monitoring.blob import from_blob
from runtime.monitoring.monitor import Window
from runtime.monitoring.summary import Summary
from tests.runtime.monitoring.streams import baseline, rows

BASE = baseline()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gateway:
    """What answers: takes bodies, or fails as told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.error: EdgewardError | None = None
        self.keeps_before_failing = False

    def __call__(self, body: bytes) -> Mapping[str, Any]:
        if self.error is None or self.keeps_before_failing:
            self.bodies.append(json.loads(body))
        if self.error is not None:
            raise self.error
        return {"accepted": True}

    def rows(self) -> int:
        ids = {body["window"]: from_blob(base64.b64decode(body["blob"]), BASE).rows for body in self.bodies}
        return sum(ids.values())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def window(seed: int, count: int = 60, began: float = 900.0, ended: float = 930.0) -> Window:
    summary = Summary(BASE)
    summary.update(*rows(seed, count))
    return Window(summary, began, ended)


def test_a_window_travels_with_its_age_and_without_a_date(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, clock=clock)
    telemetry.offer(window(1))
    telemetry.send_due()
    (body,) = gateway.bodies
    assert (body["device"], body["age_s"], body["span_s"]) == ("pi", 70.0, 30.0)
    assert set(body) == {"device", "window", "age_s", "span_s", "blob"}, "gateways of earlier builds refuse any other"
    assert telemetry.describe()["sent"] == 1


def test_what_drifts_here_is_told_as_it_is_now(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, clock=clock)
    gateway.error = PeerUnreachableError("away")
    for seed in range(MAX_WAITING + 1):
        drifting = ("x[0]",) if seed else ("x[1]", "site")
        telemetry.offer(replace(window(seed), drifting=drifting))
    gateway.error = None
    telemetry.send_due()
    assert gateway.bodies[0]["drifting"] == ["x[0]"], "of two that were joined the later one's"
    telemetry.offer(replace(window(99), drifting=tuple(f"x[{at}]" for at in range(40))))
    telemetry.send_due()
    assert len(gateway.bodies[-1]["drifting"]) == MAX_DRIFTING


def test_private_rows_are_told_by_their_number_alone_and_each_once(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, clock=clock)
    gateway.error = PeerUnreachableError("away")
    for seed in range(MAX_WAITING + 1):
        telemetry.offer(replace(window(seed), private_rows=10))
    telemetry.offer(replace(window(98, count=5), private_rows=3))
    telemetry.offer(replace(window(99), private_rows=4))
    gateway.error = None
    telemetry.send_due()
    counts = [body["private_rows"] for body in gateway.bodies]
    assert sum(counts) == 10 * (MAX_WAITING + 1) + 7, "of windows that were joined, those of all"
    assert max(counts) >= 20


def test_a_night_asleep_makes_a_window_older_and_refills_the_budget(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("laptop", gateway, clock=clock)
    gateway.error = PeerUnreachableError("away")
    telemetry.offer(window(1, ended=1000.0))
    telemetry.send_due()
    clock.now += 8 * 3600
    gateway.error = None
    telemetry.send_due()
    assert gateway.bodies[0]["age_s"] == 8 * 3600.0


def test_offline_windows_wait_join_and_arrive_whole(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, bytes_per_hour=100 << 20, clock=clock)
    gateway.error = PeerUnreachableError("away")
    for at in range(3 * MAX_WAITING):
        telemetry.offer(window(at))
        telemetry.send_due()
        clock.now += 30
    told = telemetry.describe()
    assert told["waiting"] == MAX_WAITING
    assert (told["joined"], told["dropped"], told["last_error"]) == (2 * MAX_WAITING, 0, "away")
    gateway.error = None
    clock.now += 3600
    telemetry.send_due()
    assert gateway.rows() == 60 * 3 * MAX_WAITING, "no row is lost, only when it was"


def test_what_may_have_arrived_is_sent_again_under_the_same_id(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, bytes_per_hour=100 << 20, clock=clock)
    telemetry.offer(window(1))
    gateway.error, gateway.keeps_before_failing = DeadlineExceededError("late"), True
    telemetry.send_due()
    for at in range(2 * MAX_WAITING):
        telemetry.offer(window(at))
    gateway.error = None
    clock.now += 60
    telemetry.send_due()
    assert gateway.bodies[0]["window"] == gateway.bodies[1]["window"]
    assert gateway.bodies[0]["blob"] == gateway.bodies[1]["blob"]
    assert gateway.rows() == 60 * (2 * MAX_WAITING + 1)


def test_the_budget_holds_and_the_rest_comes_later(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, bytes_per_hour=100_000, clock=clock)
    for hour in range(3):
        for at in range(40):
            telemetry.offer(window(at))
            telemetry.send_due()
            clock.now += 90
        assert telemetry.describe()["sent_bytes"] <= 100_000 * (hour + 2)
    assert telemetry.describe()["joined"] > 0
    assert telemetry.describe()["dropped"] == 0


def test_few_rows_wait_until_others_have_joined_them(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, clock=clock)
    for seed in range(3):
        assert gateway.bodies == []
        telemetry.offer(window(seed, count=7, ended=900.0 + seed))
        telemetry.send_due()
    assert gateway.rows() == 21
    assert gateway.bodies[0]["age_s"] == clock.now - 902.0


@pytest.mark.parametrize(
    ("error", "waiting", "refused"),
    [
        (InvalidInputError("another baseline"), 0, 1),
        (OverloadedError("too much", 60), 1, 0),
        (UnauthenticatedError("no key"), 1, 0),
    ],
)
def test_refusals_for_ever_are_dropped_and_others_wait(
    clock: Clock, gateway: Gateway, error: EdgewardError, waiting: int, refused: int
) -> None:
    telemetry = Telemetry("pi", gateway, clock=clock)
    gateway.error = error
    telemetry.offer(window(1))
    telemetry.send_due()
    told = telemetry.describe()
    assert (told["waiting"], told["refused"]) == (waiting, refused)
    gateway.error = None
    telemetry.send_due()
    assert gateway.bodies == [], "not before the pause is over"
    clock.now += 601
    telemetry.send_due()
    assert len(gateway.bodies) == waiting


def test_a_window_larger_than_any_budget_is_dropped_and_said(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, bytes_per_hour=1000, clock=clock)
    telemetry.offer(window(1))
    telemetry.send_due()
    assert telemetry.describe()["dropped"] == 1


def test_an_agent_that_stops_sends_once_more(gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway)
    telemetry.start()
    telemetry.offer(window(1))
    telemetry.close()
    assert telemetry.describe()["sent"] == 1


def test_what_is_lost_with_the_agent_is_said(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry("pi", gateway)
    telemetry.start()
    gateway.error = PeerUnreachableError("away")
    telemetry.offer(window(1, count=60))
    telemetry.close()
    assert "statistics of 60 rows (1 windows) were not sent and are lost as this agent stops: away" in caplog.text


async def test_metrics_tell_what_became_of_windows(clock: Clock, gateway: Gateway) -> None:
    telemetry = Telemetry("pi", gateway, clock=clock)
    collect = telemetry_metrics(telemetry)

    async def told() -> dict[str, float]:
        samples = [sample for family in await collect() for sample in family.samples]
        return {labels.get("result", str(at)): float(count) for at, (labels, count) in enumerate(samples)}  # type: ignore[arg-type]

    telemetry.offer(window(1))
    assert await told() == {"sent": 0, "joined": 0, "dropped": 0, "refused": 0, "4": 1, "5": 0}
    gateway.error = InvalidInputError("another bundle")
    telemetry.send_due()
    gateway.error = None
    telemetry.offer(window(2))
    telemetry.send_due()
    assert await told() == {
        "sent": 1,
        "joined": 0,
        "dropped": 0,
        "refused": 1,
        "4": 0,
        "5": len(json.dumps(gateway.bodies[0])),
    }


def test_the_number_of_private_rows_outlives_a_window_that_is_dropped(clock: Clock, gateway: Gateway) -> None:
    def of(model: int) -> Window:
        summary = Summary(replace(BASE, model=f"m{model}"))
        summary.update(*rows(model, 60))
        return Window(summary, 900.0, 930.0, private_rows=10)

    telemetry = Telemetry("pi", gateway, bytes_per_hour=1 << 24, clock=clock)
    for model in range(MAX_WAITING + 1):
        telemetry.offer(of(model))
    telemetry.offer(of(1))
    assert telemetry.describe()["dropped"] == 2, "no two are of one model, so none could be joined"
    telemetry.send_due()
    telemetry.offer(of(2))
    telemetry.send_due()
    assert sum(body["private_rows"] for body in gateway.bodies) == 10 * (MAX_WAITING + 3)
    assert [body["private_rows"] for body in gateway.bodies[-2:]] == [20, 20]

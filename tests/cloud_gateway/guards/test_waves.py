"""Waves: the next one when enough have reported and nothing speaks against it; a stop on harm, at any time."""

from __future__ import annotations

import json

import pytest

from cloud_gateway.guards import Action
from cloud_gateway.guards.waves import WavePlan, WaveWatch
from runtime.errors import WrongUseError


def test_a_healthy_version_goes_through_all_waves() -> None:
    watch = WaveWatch(WavePlan(), 500)
    allowed = []
    for device in range(500):
        assert device < watch.allowed
        watch.observe_kept()
        if watch.decide().action is Action.ADVANCE and (not allowed or allowed[-1] != watch.allowed):
            allowed.append(watch.allowed)
    assert allowed == [25, 125, 500]
    assert "the whole fleet has it" in watch.decide().reason


def test_a_wave_waits_for_reports_and_says_for_how_many() -> None:
    watch = WaveWatch(WavePlan(), 500)
    watch.observe_kept()
    decision = watch.decide()
    assert decision.action is Action.HOLD
    assert decision.allowed == 5
    assert "waits for 4 more devices" in decision.reason


def test_harm_stops_it_within_the_first_waves() -> None:
    watch = WaveWatch(WavePlan(), 500)
    for device in range(25):
        if device % 5:
            watch.observe_kept()
        else:
            watch.observe_failure(device + 1)
        if watch.decide().action is Action.ROLLBACK:
            break
    decision = watch.decide()
    assert decision.action is Action.ROLLBACK
    assert decision.failed <= 4
    assert "harms devices" in decision.reason


def test_a_fleet_of_one_device_has_a_first_wave_of_one() -> None:
    assert WaveWatch(WavePlan(), 1).allowed == 1


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"shares": (0.5, 0.1, 1.0)}, "rising shares"),
        ({"shares": (0.1, 0.5)}, "end in 1.0"),
        ({"tolerated": 0.0}, "tolerated is 0.0"),
        ({"reported_share": 1.5}, "reported_share is 1.5"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, object], said: str) -> None:
    with pytest.raises(WrongUseError, match=said):
        WavePlan(**plan)  # type: ignore[arg-type]


def test_state_survives_as_json() -> None:
    watch = WaveWatch(WavePlan(), 100)
    watch.observe_kept()
    watch.observe_failure(30)
    watch.decide()
    revived = WaveWatch.from_state(WavePlan(), json.loads(json.dumps(watch.to_state())))
    for one in (revived, watch):
        one.observe_failure(2)
    assert revived.decide() == watch.decide()
    assert revived.to_state()["failed_at"] == [2, 30]


def test_a_state_from_before_places_goes_on() -> None:
    before = {"devices": 500, "wave": 1, "reported": 12, "failed": 1, "harm": {}}
    watch = WaveWatch.from_state(WavePlan(), before)
    assert (watch.wave, watch.failed, watch.decide().action) == (1, 1, Action.HOLD)


def test_failures_that_tell_first_are_held_against_all_that_got_it() -> None:
    soon, late = WaveWatch(WavePlan(), 500), WaveWatch(WavePlan(), 500)
    places = [40, 150, 260, 370, 480]  # one in a hundred, of devices that all have it
    for place in places:
        soon.observe_failure(place)
        assert soon.decide().action is not Action.ROLLBACK, "nothing has been kept yet, and nothing is wrong"
    for _ in range(495):
        late.observe_kept()
    for place in reversed(places):
        late.observe_failure(place)
    assert late.decide().action is not Action.ROLLBACK
    for place in (1, 2, 3):
        late.observe_failure(place)
    assert late.decide().action is Action.ROLLBACK
    assert "that got it failed" in late.decide().reason

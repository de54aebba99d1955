"""Every name that the status may tell has words for people, and none of the internal ones is left in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from edge_agent import words
from edge_agent.breaker import BreakerState
from edge_agent.cli import _facts
from edge_agent.counts import Hedge
from edge_agent.plan import Why
from edge_agent.rules import Policy
from runtime.wire.values import Privacy, ServedBy


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (Why, words.WHY),
        (Policy, words.POLICY),
        (Privacy, words.PRIVACY),
        ([*ServedBy, "failed"], words.ANSWERED),
        (ServedBy, words.ASKED),
        (Hedge, words.SECOND_CALL),
        (BreakerState, words.BREAKER),
    ],
)
def test_every_name_has_words(names: Iterable[str], told: Mapping[str, str]) -> None:
    assert {str(name) for name in names} == {str(name) for name in told}
    assert len(set(told.values())) == len(told)
    assert not any("_" in text for text in told.values())


def test_the_status_speaks_plainly() -> None:
    gateway = {"address": "10.0.0.1:8001", "is_reachable": True, "breaker": "half_open", "p50_ms": None}
    told = {
        "policy": "edge_first",
        "uptime_s": 3.0,
        "drill_file": None,
        "routes": {"digits": {"policy": "edge_first", "privacy": "any", "hedge": True, "cascade": None}},
        "gateways": [{**gateway, "last_error": None, "left_out": None}],
        "spool": {"depth": 0, "bytes": 0, "oldest_age_s": None},
        "jobs": {},
        "sync": {"last_at": None, "last_error": None, "models": {}},
        "requests": {"edge": {"first_choice": 23}, "cloud": {"asked_for": 2, "edge_failed": 1}, "failed": {}},
        "effort": {"asked": {"edge": 25, "cloud": 3}, "hedges": {"sent": 1, "won": 0, "held_back": 4}},
    }
    said = "\n".join(f"{name}: {value}" for name, value in _facts(told))
    assert "answered here: 23 as its policy says" in said
    assert "answered by the gateway: 2 because the request named this side, 1 after the device failed" in said
    assert "may leave the device" in said
    for internal in ("asked_for", "first_choice", "any,", "edge_first", "held_back", "half_open"):
        assert internal not in said


def test_a_device_without_a_gateway_says_nothing_of_one_but_that() -> None:
    told = {
        "policy": "edge_first",
        "uptime_s": 3.0,
        "drill_file": None,
        "routes": {"digits": {"policy": "edge_first", "privacy": "any", "hedge": True, "cascade": None}},
        "gateways": [],
        "spool": {"depth": 0, "bytes": 0, "oldest_age_s": None},
        "jobs": {},
        "sync": {"last_at": None, "last_error": None, "models": {}},
        "requests": {"edge": {"first_choice": 23}, "cloud": {}, "failed": {}},
        "effort": {"asked": {"edge": 23, "cloud": 0}, "hedges": {"sent": 0, "won": 0, "held_back": 0}},
    }
    said = [f"{name}: {value}" for name, value in _facts(told)]
    assert said[0] == f"who answers: {words.ALONE}"
    assert "answered here: 23 as its policy says" in said
    assert [line for line in said if "gateway" in line] == said[:1]

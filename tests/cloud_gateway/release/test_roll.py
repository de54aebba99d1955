"""Who is waited for, until when, and who is forgotten: by rows that change or stand still, and one clock."""

from cloud_gateway.release.lease import LEASE_S
from cloud_gateway.release.roll import FENCE_S, FORGET_S, GatewayRow, Roll


def test_who_has_carried_a_change_out_is_not_waited_for() -> None:
    roll = Roll()
    roll.see([GatewayRow("a", 1, 6), GatewayRow("b", 9, 7), GatewayRow("c", 4, 8)], 100.0)
    assert roll.behind(7, 100.0) == ["a"]
    roll.see([GatewayRow("a", 2, 7), GatewayRow("b", 9, 7), GatewayRow("c", 4, 8)], 101.0)
    assert roll.behind(7, 101.0) == []
    assert roll.behind(8, 101.0) == ["a", "b"]
    assert roll.fenced(8, 101.0) == []


def test_who_stands_still_answers_with_stable_by_its_own_clock_and_is_not_waited_for_longer() -> None:
    roll = Roll()
    for now in (100.0, 101.0, 102.9):
        roll.see([GatewayRow("deaf", 5, 6)], now)
        assert roll.behind(7, now) == ["deaf"]
    assert roll.behind(7, 100.0 + FENCE_S) == []
    assert roll.fenced(7, 100.0 + FENCE_S) == ["deaf"]
    roll.see([GatewayRow("deaf", 6, 6)], 104.0)
    assert roll.behind(7, 104.0 + FENCE_S - 0.1) == ["deaf"], "it is back, and has not looked yet"


def test_a_row_of_a_gateway_that_was_killed_is_waited_for_once_and_then_goes() -> None:
    roll = Roll()
    roll.see([GatewayRow("killed", 5, 6)], 0.0)
    assert roll.behind(7, 1.0) == ["killed"], "nobody can know yet that it was"
    assert roll.gone(FORGET_S - 1) == []
    assert roll.gone(FORGET_S) == ["killed"]
    assert roll.fenced(7, FORGET_S) == []
    roll.see([], FORGET_S)
    assert roll.names == set()


def test_a_leader_that_was_cut_off_answers_with_stable_before_another_leads() -> None:
    assert FENCE_S < LEASE_S

"""S7's page: what counts as late, and verdicts for both gateways."""

from __future__ import annotations

from typing import Any

from benchmarks.releases.switch import BATCH, FOLLOWER, LEADER, _Answer, _bars, _judge, _Switch


def test_what_was_sent_after_the_decision_is_told_from_what_was_under_way() -> None:
    switch = _Switch(sent=10.0, written=10.1, switched={LEADER: 10.2, FOLLOWER: 10.4}, decided=10.5, old="2")
    answers = [
        _Answer(10.15, 10.3, "2"),  # under way when the leader switched
        _Answer(10.3, 10.35, "2"),  # the follower had not heard yet
        _Answer(10.35, 10.45, "2"),  # under way when it switched
        _Answer(10.45, 10.55, "2"),  # sent before the decision
        _Answer(10.45, 10.55, "1"),
        _Answer(10.6, 10.7, "2"),  # late
        _Answer(10.6, 10.7, "1"),
    ]
    told = _judge(answers, switch, FOLLOWER)
    assert (told["sent_after_leader"], told["under_way"]) == (4, 1)
    assert (told["under_way_at_decision"], told["sent_after"]) == (1, 1)
    assert round(told["behind_ms"]) == 200
    assert round(told["decided_ms"]) == 500


def row(gateway: str, late: int, dropped: int = 0) -> dict[str, Any]:
    switches = [{"under_way_at_decision": 2, "sent_after": 0}, {"under_way_at_decision": 0, "sent_after": late}]
    return {"gateway": gateway, "requests": 1000, "dropped": ["lost"] * dropped, "switches": switches}


def test_a_gateway_with_more_than_a_batch_on_the_old_split_missed_the_bar() -> None:
    held = _bars([row(LEADER, 0), row(FOLLOWER, BATCH)])
    assert [line.split(":")[0] for line in held] == ["- held"] * 3
    missed = _bars([row(LEADER, 0), row(FOLLOWER, 0), row(FOLLOWER, BATCH + 1, dropped=1)])
    assert [line.split(":")[0] for line in missed] == ["- held", "- **missed**", "- **missed**"]
    assert "33 at worst of 4 switches" in missed[1]
    assert "1 of 3,000" in missed[2]

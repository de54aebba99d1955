"""What follows from a model's record: fetch what is new and not known to be bad, roll back after the second crash."""

from dataclasses import replace

from edge_agent.sync.record import (
    ModelRecord,
    Offer,
    Trial,
    begun,
    confirmed,
    ended_well,
    rejected,
    rolled_back,
    switched,
    wanted,
)


def offer(version: int, digest: str = "") -> Offer:
    return Offer("m", version, digest or f"digest {version}", f"sha {version}", 10)


def test_the_newest_is_wanted_unless_it_is_here_or_known_to_be_bad() -> None:
    offers = [offer(1), offer(3), offer(2)]
    assert wanted(ModelRecord(), None, offers) == offer(3)
    assert wanted(ModelRecord(), "digest 3", offers) is None, "what the settings name is the same bundle"
    assert wanted(ModelRecord(current=offer(3)), "digest 3", offers) is None
    assert wanted(ModelRecord(current=offer(3), rejected=("digest 3",)), None, offers) == offer(2)
    assert wanted(ModelRecord(), None, []) is None


def test_what_the_gateway_takes_back_is_followed() -> None:
    assert wanted(ModelRecord(current=offer(3)), "digest 3", [offer(2)]) == offer(2)


def test_two_crashes_roll_back_and_clean_ends_do_not_count() -> None:
    before = ModelRecord(current=offer(1))
    record = switched(before, offer(2))
    assert (record.current, record.previous, record.trial) == (offer(2), offer(1), Trial(0, True))
    for _ in range(5):
        record = begun(ended_well(record))
    assert record.trial == Trial(0, True)
    once = begun(record)
    assert once.trial == Trial(1, True)
    assert once.current == offer(2)
    twice = begun(once)
    assert (twice.current, twice.previous, twice.trial) == (offer(1), None, None)
    assert twice.rejected == ("digest 2",)
    assert "rolled back from version 2" in twice.note
    assert wanted(twice, "digest 1", [offer(1), offer(2)]) is None, "and it is not fetched again"


def test_what_has_proved_itself_does_not_roll_back() -> None:
    record = confirmed(switched(ModelRecord(current=offer(1)), offer(2)))
    for _ in range(5):
        record = begun(record)
    assert record.current == offer(2)


def test_without_a_version_before_it_the_settings_hold_again() -> None:
    assert rolled_back(switched(ModelRecord(), offer(2)), "it does not load").current is None


def test_what_is_rejected_is_bounded() -> None:
    record = ModelRecord(current=offer(1))
    for version in range(300):
        record = rejected(record, offer(version), "bad")
    assert len(record.rejected) == 100
    assert record == replace(record, current=offer(1))

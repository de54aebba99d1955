"""Who is left out among several gateways, for how long, and whom to ask."""

from dataclasses import replace

from edge_agent.outliers import Outliers, OutlierSettings, Standing

GOOD = Standing(True, 50, 0.0, 0.01, 0)
FAILING = replace(GOOD, failure_share=0.8)
SLOW = replace(GOOD, typical_s=0.2)
NEW = Standing(True, 0, 0.0, None, 0)
DOWN = replace(GOOD, is_permitted=False)


def outliers(count: int) -> Outliers:
    return Outliers(count, OutlierSettings(eject_s=5.0, jitter=0.0), lambda: 0.0)


def test_who_answers_with_errors_or_slowly_while_another_does_not_is_left_out() -> None:
    for bad, why in ((FAILING, "80% of its answers are errors"), (SLOW, "it takes 200 ms, another 10 ms")):
        subject = outliers(2)
        told = subject.review([GOOD, bad], 0.0)
        assert [index for index, _ in told] == [1]
        assert why in subject.reason(1, 4.9)
        assert subject.reason(1, 5.1) == ""


def test_nobody_is_left_out_when_all_are_bad_alone_or_unknown() -> None:
    assert outliers(2).review([FAILING, FAILING], 0.0) == []
    assert outliers(1).review([FAILING], 0.0) == []
    assert outliers(2).review([NEW, FAILING], 0.0) == []
    assert outliers(2).review([replace(GOOD, typical_s=0.001), replace(GOOD, typical_s=0.01)], 0.0) == []
    assert outliers(2).review([DOWN, SLOW], 0.0) == []


def test_never_more_than_half_are_left_out() -> None:
    assert len(outliers(5).review([GOOD, SLOW, SLOW, SLOW, SLOW], 0.0)) == 2
    assert len(outliers(3).review([GOOD, SLOW, SLOW], 0.0)) == 1


def test_each_time_is_longer_and_doing_well_forgives() -> None:
    subject = outliers(2)
    subject.review([GOOD, SLOW], 0.0)
    subject.review([GOOD, SLOW], 6.0)
    assert subject.reason(1, 6.0 + 9.9)
    assert not subject.reason(1, 6.0 + 10.1)
    subject.review([GOOD, GOOD], 20.0)
    subject.review([GOOD, SLOW], 21.0)
    assert not subject.reason(1, 21.0 + 5.1)


def test_who_is_back_is_told_once() -> None:
    subject = outliers(2)
    assert subject.back(0.0) == []
    subject.review([GOOD, SLOW], 0.0)
    assert subject.back(4.9) == []
    assert subject.back(5.1) == [1]
    assert subject.back(5.2) == []


def test_the_order_weighs_time_and_what_is_under_way_and_asks_the_unknown() -> None:
    subject = outliers(3)
    assert subject.order([GOOD, replace(GOOD, typical_s=0.015), DOWN], 0.0) == [0, 1]
    assert subject.order([replace(GOOD, in_flight=3), replace(GOOD, typical_s=0.015), DOWN], 0.0) == [1, 0]
    assert subject.order([replace(GOOD, in_flight=1), NEW, GOOD], 0.0)[0] == 1
    assert subject.order([replace(NEW, answers=5, failure_share=1.0), GOOD, DOWN], 0.0) == [1, 0]
    subject.review([GOOD, SLOW, DOWN], 0.0)
    assert subject.order([GOOD, SLOW, DOWN], 1.0) == [0, 1]
    assert subject.order([DOWN, SLOW, DOWN], 1.0) == [1], "left out, but better than nobody"

"""Which quantiles may still be judged where requests failed, and what is said where they may not."""

from benchmarks.failures import failed_share, told, tolerated, why_not_judged

SHED = {"503 UNAVAILABLE": 270}


def test_a_tail_tolerates_a_tenth_of_what_a_median_does() -> None:
    assert tolerated(0.5) == 0.01
    assert round(tolerated(0.99), 6) == 0.001


def test_few_failures_leave_a_median_and_not_a_tail() -> None:
    one_in_200 = {"504 DEADLINE_EXCEEDED": 5}
    assert why_not_judged(0.5, (1000, 995), ({}, one_in_200)) is None
    assert "more than 0.1% failed p99 is not judged" in str(why_not_judged(0.99, (1000, 995), ({}, one_in_200)))


def test_either_side_and_both_alike_are_not_judged() -> None:
    for errors in ((SHED, {}), ({}, SHED), (SHED, SHED)):
        assert "see to the errors" in str(why_not_judged(0.5, (300, 300), errors))
    assert why_not_judged(0.99, (300, 300), ({}, {})) is None


def test_what_failed_is_told_by_code() -> None:
    assert told(30, SHED) == "answered 30 of 300 requests (503 UNAVAILABLE 270)"
    assert told(1200, {}) == "answered 1,200 of 1,200 requests"
    assert failed_share(30, SHED) == 0.9
    assert failed_share(0, {}) == 0

"""When disagreement with the reference is too much, and when it is not."""

import random

import pytest

from runtime.engine.agreement import DisagreementTest


def checks_until_alarm(test: DisagreementTest, shares: list[float]) -> int | None:
    return next((at for at, share in enumerate(shares, 1) if test.is_sustained(share)), None)


def test_answers_that_are_all_wrong_are_found_in_a_handful_of_checks() -> None:
    assert checks_until_alarm(DisagreementTest(1.0), [1.0] * 100) == 6
    assert checks_until_alarm(DisagreementTest(0.95), [1.0] * 100) in range(6, 20)


def test_a_long_good_past_does_not_delay_the_alarm() -> None:
    assert checks_until_alarm(DisagreementTest(1.0), [0.0] * 10_000 + [1.0] * 100) == 10_006


@pytest.mark.parametrize("agreement", [1.0, 0.99, 0.97, 0.9, 0.6, None])
def test_what_the_calibration_allowed_never_alarms_and_far_more_does(agreement: float | None) -> None:
    generator = random.Random(1)
    test = DisagreementTest(agreement)
    usual = [float(generator.random() < test.allowed) for _ in range(20_000)]
    assert checks_until_alarm(test, usual) is None
    tripled = [float(generator.random() < min(3 * test.allowed + 0.15, 1.0)) for _ in range(2_000)]
    assert checks_until_alarm(test, tripled) is not None


def test_one_wrong_answer_now_and_then_is_forgiven() -> None:
    assert checks_until_alarm(DisagreementTest(1.0), [1.0, *[0.0] * 99] * 200) is None


def test_a_candidate_that_never_agreed_can_still_be_watched() -> None:
    assert checks_until_alarm(DisagreementTest(0.0), [1.0] * 1000) is not None

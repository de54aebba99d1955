"""What the first stage takes: told before it begins, and true of the guards that then decide."""

import pytest

from cloud_gateway.guards import Action, Arm, GuardWatch, Observation
from cloud_gateway.release.example import EXAMPLE_PLAN
from cloud_gateway.release.first_stage import first_stage
from cloud_gateway.release.plan import parse_plan
from tests.cloud_gateway.release.test_plan import LEAST


def test_the_least_plan_says_what_it_takes_and_what_makes_it_fewer() -> None:
    first = first_stage(parse_plan(LEAST))
    assert first is not None
    assert (first.if_harmless, first.about) == (56_000, 800_000)
    said = str(first)
    assert "at 1 % of the traffic, takes about 56,000 requests where nothing fails and about 800,000" in said
    assert "fewer with a first stage over 1 % or a margin over 0.01" in said


def test_without_a_failure_the_guards_advance_after_as_many_requests_as_said() -> None:
    plan = parse_plan(EXAMPLE_PLAN)
    first = first_stage(plan)
    assert first is not None
    assert first.if_harmless is not None
    watch = GuardWatch(plan.guards, plan.alpha, plan.share(0))
    asked = 0
    while watch.judge().action is not Action.ADVANCE:
        watch.observe(Observation(Arm.CANDIDATE if asked % 10 == 9 else Arm.STABLE, False, 0.001, f"user {asked}"))
        asked += 1
    assert asked == pytest.approx(first.if_harmless, rel=0.1)


def test_a_shadow_compares_every_request() -> None:
    first = first_stage(parse_plan(LEAST + 'strategy = "shadow"'))
    assert first is not None
    assert first.share == 0.0
    assert first.if_harmless == 560
    assert "beside stable" in str(first)


def test_all_at_once_compares_the_share_that_stable_is_given_too() -> None:
    first = first_stage(parse_plan(LEAST + 'strategy = "blue_green"\ncontrol_share = 25'))
    assert first is not None
    assert first.if_harmless == 4 * 560
    assert "at 100 % of the traffic" in str(first)


def test_there_is_none_where_no_proof_is_waited_for() -> None:
    more = 'stages = [10, 100]\n[[guards]]\nmetric = "error_rate"\nmargin = 0.01\nis_required = false'
    assert first_stage(parse_plan(LEAST + more)) is None


def test_a_guard_without_a_figure_is_not_given_one() -> None:
    latency = first_stage(parse_plan(LEAST + '[[guards]]\nmetric = "latency"\nmargin = 0.2'))
    assert latency is not None
    assert latency.if_harmless is None
    assert latency.about is not None
    assert f"takes about {latency.about:,} requests where one in twenty fails" in str(latency)
    business = first_stage(parse_plan(LEAST + '[[guards]]\nmetric = "business"\nname = "clicks"\nmargin = 0.2'))
    assert business is not None
    assert "cannot be said before there are some (clicks)" in str(business)

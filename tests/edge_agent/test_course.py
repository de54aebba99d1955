"""The course of one request, event by event: fallback, hedge, cascade, giving up; nothing here waits or sends."""

import math
from dataclasses import replace

import pytest

from edge_agent.course import Answered, Ask, Course, Deliver, Due, Failed, GiveUp, Move, Opening, Withdraw
from edge_agent.plan import RequestFacts, Why
from edge_agent.rules import Policy, Rule
from edge_agent.states import NO_GATEWAY, CloudState, LocalState
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    OverloadedError,
    PeerUnreachableError,
)
from runtime.wire.values import Privacy, Route, ServedBy

NOW = 1000.0
DEADLINE = NOW + 1.0
EDGE, CLOUD = ServedBy.EDGE, ServedBy.CLOUD
FAST_EDGE = LocalState(predicted_s=0.02, typical_s=0.01, is_live=True)
GOOD_CLOUD = CloudState(True, True, predicted_s=0.06, typical_s=0.04)


def opening(
    rule: Rule = Rule(),  # noqa: B008  (frozen)
    local: LocalState = FAST_EDGE,
    cloud: CloudState = GOOD_CLOUD,
    route: Route = Route.AUTO,
    *,
    privacy: Privacy = Privacy.ANY,
    is_idempotent: bool = True,
) -> Opening:
    return Opening(rule, RequestFacts(route, privacy, DEADLINE, is_idempotent), local, cloud, NOW)


def asked(moves: list[Move]) -> list[ServedBy]:
    return [move.step.arm for move in moves if isinstance(move, Ask)]


def delivered(moves: list[Move]) -> tuple[ServedBy, Why, str]:
    move = moves[-1]
    assert isinstance(move, Deliver), moves
    return move.step.arm, move.step.why, move.step.reason


def given_up(moves: list[Move]) -> EdgewardError:
    move = moves[-1]
    assert isinstance(move, GiveUp), moves
    return move.error


def test_the_plain_course() -> None:
    course = Course(opening())
    assert asked(course.open()) == [EDGE]
    assert delivered(course.on(Answered(EDGE, NOW + 0.01))) == (EDGE, Why.FIRST_CHOICE, "policy edge_first")
    assert course.wake_at is None


def test_a_hedge_goes_out_when_the_first_is_late_and_the_other_could_win() -> None:
    course = Course(opening(Rule(Policy.CLOUD_FIRST)))
    assert asked(course.open()) == [CLOUD]
    assert course.wake_at == pytest.approx(NOW + 0.06), "the p95 of the cloud, which is over the edge's usual time"
    assert course.on(Due(NOW + 0.05, 9.0)) == [], "too early"
    moves = course.on(Due(NOW + 0.061, 1.0))
    assert asked(moves) == [EDGE]
    assert isinstance(moves[0], Ask)
    assert moves[0].is_hedge
    arm, why, reason = delivered(course.on(Answered(EDGE, NOW + 0.07)))
    assert (arm, why) == (EDGE, Why.CLOUD_LATE)
    assert "the cloud took longer than 61 ms" in reason


def test_of_a_hedged_pair_the_first_good_answer_wins_and_the_other_is_withdrawn() -> None:
    course = Course(opening(Rule(Policy.CLOUD_FIRST)))
    course.open()
    course.on(Due(NOW + 0.061, 1.0))
    moves = course.on(Answered(CLOUD, NOW + 0.065))
    assert moves[0] == Withdraw(EDGE)
    assert delivered(moves)[:2] == (CLOUD, Why.FIRST_CHOICE)
    assert course.on(Answered(EDGE, NOW + 0.066)) == [], "too late for anything"


def test_a_hedged_pair_survives_the_failure_of_one() -> None:
    course = Course(opening(Rule(Policy.CLOUD_FIRST)))
    course.open()
    course.on(Due(NOW + 0.061, 1.0))
    assert course.on(Failed(CLOUD, NOW + 0.07, PeerUnreachableError("reset"))) == []
    arm, why, reason = delivered(course.on(Answered(EDGE, NOW + 0.08)))
    assert (arm, why) == (EDGE, Why.CLOUD_FAILED)
    assert reason == "cloud failed: reset; answered by the edge"


def test_both_of_a_hedged_pair_fail_and_both_stories_are_told() -> None:
    course = Course(opening(Rule(Policy.CLOUD_FIRST)))
    course.open()
    course.on(Due(NOW + 0.061, 1.0))
    course.on(Failed(CLOUD, NOW + 0.07, PeerUnreachableError("reset")))
    error = given_up(course.on(Failed(EDGE, NOW + 0.08, ExecutionError("broke"))))
    assert isinstance(error, PeerUnreachableError)
    assert str(error) == "cloud failed: reset; edge failed: broke"


def test_a_callers_error_ends_a_hedged_pair_at_once() -> None:
    course = Course(opening(Rule(Policy.CLOUD_FIRST)))
    course.open()
    course.on(Due(NOW + 0.061, 1.0))
    moves = course.on(Failed(EDGE, NOW + 0.07, InvalidInputError("shape")))
    assert moves[0] == Withdraw(CLOUD)
    assert isinstance(given_up(moves), InvalidInputError)


def test_without_a_token_there_is_no_hedge_but_the_fallback_in_time() -> None:
    course = Course(opening(Rule(Policy.CLOUD_FIRST)))
    course.open()
    assert course.on(Due(NOW + 0.061, 0.99)) == []
    give_up_at = course.wake_at
    assert give_up_at is not None
    assert give_up_at == pytest.approx(NOW + 0.75), "a quarter is kept for the edge"
    moves = course.on(Due(give_up_at, 0.99))
    assert asked(moves) == [EDGE]
    assert moves == [Ask(moves[0].step)], "no hedge of the budget, and the cloud may still win"
    assert delivered(course.on(Answered(EDGE, DEADLINE - 0.01)))[:2] == (EDGE, Why.CLOUD_LATE)


@pytest.mark.parametrize(
    "start",
    [
        opening(Rule(Policy.CLOUD_FIRST, hedge=False)),
        opening(Rule(Policy.CLOUD_FIRST), is_idempotent=False),
        opening(Rule(), local=replace(FAST_EDGE, is_live=False)),  # a p95 of the calibration is none of today
        opening(Rule(), cloud=replace(GOOD_CLOUD, predicted_s=0.97, typical_s=0.97)),  # could not win
    ],
)
def test_what_is_not_hedged(start: Opening) -> None:
    course = Course(start)
    course.open()
    moves = course.on(Due(NOW + 0.5, 9.0))
    assert not any(isinstance(move, Ask) and move.is_hedge for move in moves)


def test_what_must_not_run_twice_gets_all_of_the_time_and_falls_back_only_where_it_has_not_run() -> None:
    start = opening(Rule(Policy.CLOUD_FIRST), is_idempotent=False)
    for error, follows in ((PeerUnreachableError("reset"), []), (OverloadedError("full"), [EDGE])):
        course = Course(start)
        course.open()
        assert course.wake_at is None
        assert asked(course.on(Failed(CLOUD, NOW + 0.1, error))) == follows


def test_neither_can_make_it_so_it_is_refused_at_once() -> None:
    slow = CloudState(True, True, predicted_s=3.0, typical_s=2.0)
    error = given_up(Course(opening(local=LocalState(predicted_s=2.0), cloud=slow)).open())
    assert isinstance(error, OverloadedError)
    assert "this device would answer in 2 s" in str(error)
    assert "the gateway would answer in 2 s" in str(error)


def test_an_arm_that_is_often_late_comes_second_and_alone_is_tried() -> None:
    often_late = CloudState(True, True, predicted_s=1.5, typical_s=0.1)
    moves = Course(opening(Rule(Policy.CLOUD_FIRST), cloud=often_late)).open()
    assert asked(moves) == [EDGE]
    assert isinstance(moves[0], Ask)
    assert moves[0].step.why is Why.TOO_SLOW
    assert asked(Course(opening(Rule(Policy.CLOUD_ONLY), cloud=often_late)).open()) == [CLOUD]


def test_where_nothing_else_is_left_the_least_slow_one_is_tried_now_and_then() -> None:
    edge = LocalState(predicted_s=3.0, typical_s=3.0, is_live=True, unasked_s=0.2)
    cloud = CloudState(True, True, predicted_s=2.0, typical_s=2.0, unasked_s=0.2)
    moves = Course(opening(local=edge, cloud=cloud)).open()
    assert asked(moves) == [CLOUD]
    assert isinstance(moves[0], Ask)
    assert "as nothing else is left" in moves[0].step.reason
    assert asked(Course(opening(local=edge, cloud=replace(cloud, unasked_s=0.0))).open()) == [EDGE]
    both_just_asked = opening(local=replace(edge, unasked_s=0.0), cloud=replace(cloud, unasked_s=0.0))
    assert isinstance(given_up(Course(both_just_asked).open()), OverloadedError)


def test_a_slow_arm_that_nobody_asked_lately_is_tried_and_leaves_the_other_its_time() -> None:
    slow = CloudState(True, True, predicted_s=3.0, typical_s=2.0, unasked_s=9.0)
    course = Course(opening(Rule(Policy.CLOUD_FIRST), cloud=slow))
    moves = course.open()
    assert asked(moves) == [CLOUD]
    assert isinstance(moves[0], Ask)
    assert moves[0].step.why is Why.TRIAL
    assert course.wake_at is not None
    assert asked(course.on(Due(course.wake_at, 0.0))) == [EDGE]
    assert asked(Course(opening(cloud=slow)).open()) == [EDGE], "no trial where the rule does not wish for it"


def test_of_two_slow_arms_the_second_is_not_kept_waiting_for_a_trial_of_the_first() -> None:
    edge = LocalState(predicted_s=3.0, typical_s=3.0, is_live=True, unasked_s=9.0, floor_s=0.01)
    cloud = CloudState(True, True, predicted_s=2.0, typical_s=2.0, unasked_s=0.0, floor_s=0.1)
    course = Course(opening(local=edge, cloud=cloud))
    moves = course.open()
    assert asked(moves) == [EDGE]
    assert isinstance(moves[0], Ask)
    assert moves[0].step.why is Why.TRIAL
    assert course.wake_at == NOW
    assert asked(course.on(Due(NOW, 1.0))) == [CLOUD]
    told = delivered(course.on(Answered(CLOUD, NOW + 0.5)))
    assert told == (CLOUD, Why.BESIDE_TRIAL, "asked at once beside a trial of the edge")


def test_an_answer_beside_a_trial_that_used_up_its_time_says_so() -> None:
    edge = LocalState(predicted_s=3.0, typical_s=0.5, is_live=True, unasked_s=9.0, floor_s=0.01)
    course = Course(opening(local=edge, cloud=GOOD_CLOUD))
    assert asked(course.open()) == [EDGE]
    assert course.wake_at == pytest.approx(NOW + 0.75)
    assert asked(course.on(Due(NOW + 0.75, 1.0))) == [CLOUD]
    why, text = delivered(course.on(Answered(CLOUD, NOW + 0.8)))[1:]
    assert (why, text) == (Why.BESIDE_TRIAL, "a trial of the edge took longer than 750 ms; the cloud answered first")


def test_a_device_short_of_memory_lets_the_cloud_go_first() -> None:
    short = replace(FAST_EDGE, pressure="memory is short", unasked_s=9.0)
    moves = Course(opening(local=short)).open()
    assert isinstance(moves[0], Ask)
    assert (moves[0].step.arm, moves[0].step.why) == (CLOUD, Why.MEMORY_SHORT)
    assert asked(Course(opening(local=short, cloud=NO_GATEWAY)).open()) == [EDGE], "alone it does what it can"


def test_an_arm_of_unknown_time_is_asked_beside_the_first_after_a_quarter_of_the_time() -> None:
    course = Course(opening(cloud=CloudState(True, True)))
    course.open()
    assert course.wake_at == pytest.approx(NOW + 0.25)


def test_an_arm_that_was_too_slow_lately_is_asked_where_the_first_fails() -> None:
    slow = LocalState(predicted_s=3.0, typical_s=2.0, is_live=True, floor_s=0.01)
    for floor_s, follows in ((0.01, [EDGE]), (1.5, [])):
        course = Course(opening(Rule(Policy.CLOUD_FIRST), local=replace(slow, floor_s=floor_s)))
        assert asked(course.open()) == [CLOUD]
        moves = course.on(Failed(CLOUD, NOW + 0.1, PeerUnreachableError("reset")))
        assert asked(moves) == follows, "with a queue of 1.5 s in front of it, it cannot be in time"


def test_an_arm_that_was_too_slow_lately_is_asked_beside_one_that_is_silent_for_a_quarter_of_the_time() -> None:
    slow = CloudState(True, True, predicted_s=3.0, typical_s=2.0, floor_s=0.04)
    course = Course(opening(cloud=slow))
    assert asked(course.open()) == [EDGE]
    assert course.wake_at == pytest.approx(NOW + 0.25)
    assert asked(course.on(Due(NOW + 0.25, 1.0))) == [CLOUD]
    assert delivered(course.on(Answered(CLOUD, NOW + 0.3)))[:2] == (CLOUD, Why.EDGE_LATE)


def test_where_a_first_arm_is_most_likely_lost_one_that_was_too_slow_lately_is_asked_beside_it_without_a_token() -> (
    None
):
    slow = CloudState(True, True, predicted_s=3.0, typical_s=2.0)
    for p95_s, follows in ((0.5, [CLOUD]), (0.6, [])):
        course = Course(opening(local=LocalState(predicted_s=p95_s, typical_s=0.01, is_live=True), cloud=slow))
        course.open()
        assert course.wake_at is not None
        assert asked(course.on(Due(course.wake_at, 0.0))) == [], "no token, no hedge"
        moves = course.on(Due(NOW + 0.75, 0.0))
        assert asked(moves) == follows, "one answer in twenty takes longer than its p95 anyway"
        assert not any(isinstance(move, Withdraw) for move in moves), "which of the two answers is open"
        assert delivered(course.on(Answered(EDGE, NOW + 0.9)))[0] == EDGE


def test_a_trial_of_a_slow_arm_takes_the_other_along_where_the_time_at_the_end_would_not_be_enough() -> None:
    was_slow = LocalState(predicted_s=4.0, typical_s=4.0, is_live=True, unasked_s=9.0, floor_s=0.01)
    for cloud_s, is_at_once in ((0.04, False), (0.8, True)):
        course = Course(opening(local=was_slow, cloud=CloudState(True, True, predicted_s=cloud_s, typical_s=cloud_s)))
        assert asked(course.open()) == [EDGE]
        assert course.wake_at == pytest.approx(NOW if is_at_once else NOW + 0.75)
        assert course.wake_at is not None
        assert asked(course.on(Due(course.wake_at, 1.0))) == [CLOUD]


def test_fastest_looks_whether_the_edge_is_well_again() -> None:
    was_slow = LocalState(predicted_s=0.5, is_live=True, unasked_s=9.0, floor_s=0.01)
    rule = Rule(Policy.FASTEST)
    assert asked(Course(opening(rule, was_slow)).open()) == [EDGE]
    assert asked(Course(opening(rule, replace(was_slow, unasked_s=0.0))).open()) == [CLOUD]
    assert asked(Course(opening(rule, replace(was_slow, floor_s=0.2))).open()) == [CLOUD]


def test_fastest_asks_an_unknown_cloud_now_and_then_where_it_could_win() -> None:
    unknown = CloudState(True, True, unasked_s=9.0)
    rule = Rule(Policy.FASTEST)
    assert asked(Course(opening(rule, cloud=unknown)).open()) == [CLOUD]
    assert asked(Course(opening(rule, LocalState(predicted_s=0.001), unknown)).open()) == [EDGE]
    assert asked(Course(opening(rule, cloud=replace(unknown, unasked_s=0.0))).open()) == [EDGE]


CASCADE = Rule(threshold=0.9)


def test_a_sure_answer_stands() -> None:
    course = Course(opening(CASCADE))
    course.open()
    arm, why, reason = delivered(course.on(Answered(EDGE, NOW + 0.01, 0.95)))
    assert (arm, why, reason) == (EDGE, Why.CONFIDENT, "confidence 0.9500 clears 0.9000")


def test_an_unsure_answer_asks_the_cloud() -> None:
    course = Course(opening(CASCADE))
    course.open()
    assert asked(course.on(Answered(EDGE, NOW + 0.01, 0.5))) == [CLOUD]
    arm, why, reason = delivered(course.on(Answered(CLOUD, NOW + 0.05)))
    assert (arm, why) == (CLOUD, Why.UNSURE)
    assert "confidence 0.5000 is under 0.9000; answered by the cloud" in reason


@pytest.mark.parametrize("how", ["failed", "silent"])
def test_an_unsure_answer_stands_in_when_the_cloud_fails(how: str) -> None:
    course = Course(opening(CASCADE))
    course.open()
    course.on(Answered(EDGE, NOW + 0.01, 0.5))
    assert course.wake_at is not None
    assert course.wake_at < DEADLINE
    if how == "failed":
        moves = course.on(Failed(CLOUD, NOW + 0.05, PeerUnreachableError("reset")))
    else:
        moves = course.on(Due(course.wake_at, 0.0))
    arm, why, reason = delivered(moves)
    assert (arm, why) == (EDGE, Why.UNSURE_ALONE)
    assert "under 0.9000; cloud failed" in reason
    assert "the local answer stands in" in reason


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (opening(CASCADE, cloud=NO_GATEWAY), "no gateway"),
        (opening(CASCADE, cloud=CloudState(True, True, predicted_s=3.0, typical_s=2.0)), "would answer in 2 s"),
        (opening(CASCADE, privacy=Privacy.LOCAL_ONLY), "privacy=local_only"),
        (opening(replace(CASCADE, privacy=Privacy.LOCAL_ONLY)), "privacy=local_only"),
    ],
)
def test_an_unsure_answer_stands_where_the_cloud_is_out_of_the_question(start: Opening, said: str) -> None:
    course = Course(start)
    assert asked(course.open()) == [EDGE]
    arm, why, reason = delivered(course.on(Answered(EDGE, NOW + 0.01, 0.5)))
    assert (arm, why) == (EDGE, Why.UNSURE_ALONE)
    assert said in reason


def test_a_cascade_that_is_hedged_already_waits_for_that_cloud_answer() -> None:
    course = Course(opening(CASCADE))
    course.open()
    assert course.wake_at is not None
    assert asked(course.on(Due(course.wake_at, 5.0))) == [CLOUD]
    assert course.on(Answered(EDGE, NOW + 0.1, 0.5)) == []
    assert delivered(course.on(Answered(CLOUD, NOW + 0.2)))[:2] == (CLOUD, Why.UNSURE)


def test_an_unsure_answer_that_is_kept_goes_out_in_time_whoever_was_first() -> None:
    doubtful = LocalState(predicted_s=1.5, typical_s=0.1, is_live=True)
    course = Course(opening(CASCADE, local=doubtful))
    assert asked(course.open()) == [CLOUD]
    assert course.wake_at is not None
    assert asked(course.on(Due(course.wake_at, 5.0))) == [EDGE]
    assert course.on(Answered(EDGE, NOW + 0.2, 0.5)) == []
    assert course.wake_at == pytest.approx(DEADLINE - 0.02)
    moves = course.on(Due(course.wake_at, 5.0))
    assert asked(moves) == [], "it has answered already"
    assert delivered(moves)[:2] == (EDGE, Why.UNSURE_ALONE)


def test_no_confidence_is_enough_where_no_threshold_holds_the_risk() -> None:
    course = Course(opening(Rule(threshold=math.inf)))
    course.open()
    assert asked(course.on(Answered(EDGE, NOW, 1.0))) == [CLOUD]
    assert "none is enough" in delivered(course.on(Answered(CLOUD, NOW + 0.1)))[2]


def test_the_cascade_leaves_requests_alone_that_say_who_answers() -> None:
    course = Course(opening(CASCADE, route=Route.EDGE))
    course.open()
    assert delivered(course.on(Answered(EDGE, NOW, 0.1)))[:2] == (EDGE, Why.ASKED_FOR)


def test_what_a_request_asks_for_outranks_the_rule_and_privacy_only_gets_stricter() -> None:
    rule = Rule(Policy.EDGE_FIRST, Privacy.LOCAL_ONLY, threshold=0.9)
    assert rule.asked_for(Policy.CLOUD_ONLY, Privacy.ANY) == Rule(Policy.CLOUD_ONLY, Privacy.LOCAL_ONLY)
    assert rule.asked_for(Policy.EDGE_FIRST, Privacy.ANY) == rule
    assert Rule().asked_for(None, Privacy.LOCAL_ONLY).privacy is Privacy.LOCAL_ONLY


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("is_in_rule", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.9])
def test_private_requests_never_get_a_move_towards_the_cloud(
    policy: Policy, is_in_rule: bool, threshold: float | None
) -> None:
    rule = Rule(policy, Privacy.LOCAL_ONLY if is_in_rule else Privacy.ANY, threshold=threshold)
    privacy = Privacy.ANY if is_in_rule else Privacy.LOCAL_ONLY
    for event in (
        Answered(EDGE, NOW + 0.1, 0.1),
        Failed(EDGE, NOW + 0.1, ExecutionError("broke")),
        Failed(EDGE, NOW + 0.1, DeadlineExceededError("late")),
        Due(NOW + 0.5, 9.0),
        Due(DEADLINE, 9.0),
    ):
        for route in Route:
            course = Course(opening(rule, route=route, privacy=privacy))
            moves = [*course.open(), *course.on(event), *course.on(Due(DEADLINE + 1, 9.0))]
            assert CLOUD not in asked(moves)

"""Routing, exhaustively: every policy, override and state of both arms, and what follows every kind of failure."""

from itertools import product

import pytest

from edge_agent.falling_back import after_failure, may_fall_back, retell
from edge_agent.plan import Plan, Refusal, RequestFacts, Why
from edge_agent.reserve import FALLBACK_MARGIN, FALLBACK_SHARE
from edge_agent.routing import decide
from edge_agent.rules import Policy
from edge_agent.states import NO_GATEWAY, CloudState, LocalState
from runtime import errors
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    PeerUnreachableError,
    UnsupportedError,
)
from runtime.wire.values import Privacy, Route, ServedBy

NOW = 1000.0
DEADLINE = NOW + 10.0
EDGE, CLOUD = ServedBy.EDGE, ServedBy.CLOUD

LOCAL = {
    "ready": LocalState(predicted_s=0.01),
    "unmeasured": LocalState(),
    "slow": LocalState(predicted_s=11.0),
    "missing": LocalState(ModelNotFoundError("model 'm' is not served here")),
    "loading": LocalState(ModelNotReadyError("model 'm' is still loading")),
}
GATEWAY = {
    "good": CloudState(True, True, predicted_s=0.05),
    "unmeasured": CloudState(True, True),
    "slow": CloudState(True, True, predicted_s=11.0),
    "open": CloudState(True, False, detail="the breaker is open"),
    "none": NO_GATEWAY,
}
ABLE_LOCAL = {"ready", "unmeasured"}
ABLE_CLOUD = {"good", "unmeasured"}
EVERYTHING = list(product(Policy, Route, Privacy, LOCAL, GATEWAY))


def facts(route: Route = Route.AUTO, privacy: Privacy = Privacy.ANY, deadline: float = DEADLINE) -> RequestFacts:
    return RequestFacts(route, privacy, deadline)


def arms(decision: Plan | Refusal) -> list[ServedBy]:
    return [step.arm for step in decision.steps] if isinstance(decision, Plan) else []


def wished(policy: Policy, route: Route, local: str, cloud: str) -> list[ServedBy]:
    """The order that policy and route wish for, told in another way than the code does."""
    if route is not Route.AUTO:
        return [ServedBy(route.value)]
    if policy.value.endswith("_only"):
        return [ServedBy(policy.value.removesuffix("_only"))]
    if policy is Policy.CLOUD_FIRST:
        return [CLOUD, EDGE]
    if policy is Policy.FASTEST and local == "slow" and cloud == "good":
        return [CLOUD, EDGE]
    return [EDGE, CLOUD]


@pytest.mark.parametrize("policy", Policy)
def test_every_combination_takes_the_able_arms_in_the_wished_order(policy: Policy) -> None:
    for one, route, privacy, local, cloud in EVERYTHING:
        if one is not policy:
            continue
        decision = decide(policy, facts(route, privacy), LOCAL[local], GATEWAY[cloud], NOW)
        able = {EDGE: local in ABLE_LOCAL, CLOUD: cloud in ABLE_CLOUD and privacy is Privacy.ANY}
        order = wished(policy, route, local, cloud)
        was_slow = {EDGE: local == "slow", CLOUD: cloud == "slow" and privacy is Privacy.ANY}
        expected = [arm for arm in order if able[arm]]
        expected += [arm for arm in order if was_slow[arm]] if expected else []
        assert arms(decision) == expected, (route, privacy, local, cloud)


@pytest.mark.parametrize(("policy", "route", "privacy", "local", "cloud"), EVERYTHING[:: len(EVERYTHING) // 100])
def test_every_decision_says_why(policy: Policy, route: Route, privacy: Privacy, local: str, cloud: str) -> None:
    decision = decide(policy, facts(route, privacy), LOCAL[local], GATEWAY[cloud], NOW)
    if isinstance(decision, Refusal):
        assert str(decision.error)
    else:
        assert all(step.reason for step in decision.steps)
        wish = wished(policy, route, local, cloud)[0]
        is_plain = decision.steps[0].arm is wish and route is Route.AUTO
        assert (decision.steps[0].why is Why.FIRST_CHOICE) == is_plain


def test_local_only_never_yields_a_cloud_step() -> None:
    for policy, route, _, local, cloud in EVERYTHING:
        decision = decide(policy, facts(route, Privacy.LOCAL_ONLY), LOCAL[local], GATEWAY[cloud], NOW)
        assert CLOUD not in arms(decision)
        if isinstance(decision, Plan):
            assert after_failure(decision, decision.steps[0], ExecutionError("broken"), NOW) is None


@pytest.mark.parametrize(
    ("policy", "route", "privacy", "local", "cloud", "error", "text"),
    [
        (Policy.EDGE_FIRST, Route.AUTO, Privacy.ANY, "missing", "none", ModelNotFoundError, "is not served here"),
        (Policy.EDGE_FIRST, Route.AUTO, Privacy.ANY, "missing", "open", PeerUnreachableError, "the breaker is open"),
        (Policy.EDGE_FIRST, Route.AUTO, Privacy.ANY, "loading", "open", ModelNotReadyError, "still loading"),
        (Policy.EDGE_FIRST, Route.AUTO, Privacy.ANY, "slow", "slow", OverloadedError, "cloud was not asked"),
        (Policy.EDGE_FIRST, Route.AUTO, Privacy.ANY, "slow", "none", OverloadedError, "11 s"),
        (Policy.EDGE_FIRST, Route.AUTO, Privacy.LOCAL_ONLY, "missing", "good", ModelNotFoundError, "local_only"),
        (Policy.EDGE_ONLY, Route.AUTO, Privacy.ANY, "missing", "good", ModelNotFoundError, "is not served here"),
        (Policy.CLOUD_FIRST, Route.AUTO, Privacy.ANY, "missing", "none", ModelNotFoundError, "no gateway"),
        (Policy.CLOUD_FIRST, Route.AUTO, Privacy.ANY, "slow", "slow", DeadlineExceededError, "edge was not asked"),
        (Policy.CLOUD_ONLY, Route.AUTO, Privacy.ANY, "ready", "open", PeerUnreachableError, "the breaker is open"),
        (Policy.CLOUD_ONLY, Route.AUTO, Privacy.LOCAL_ONLY, "ready", "good", InvalidInputError, "cloud_only"),
        (Policy.EDGE_FIRST, Route.CLOUD, Privacy.LOCAL_ONLY, "ready", "good", InvalidInputError, "route=cloud"),
        (Policy.EDGE_FIRST, Route.CLOUD, Privacy.ANY, "ready", "none", UnsupportedError, "--gateway HOST:PORT"),
        (Policy.CLOUD_FIRST, Route.EDGE, Privacy.ANY, "missing", "good", ModelNotFoundError, "is not served here"),
    ],
)
def test_refusals(
    policy: Policy, route: Route, privacy: Privacy, local: str, cloud: str, error: type[EdgewardError], text: str
) -> None:
    decision = decide(policy, facts(route, privacy), LOCAL[local], GATEWAY[cloud], NOW)
    assert isinstance(decision, Refusal)
    assert type(decision.error) is error
    assert text in str(decision.error)


@pytest.mark.parametrize(
    ("policy", "privacy", "local", "cloud", "arm", "why", "reason"),
    [
        (Policy.EDGE_FIRST, Privacy.ANY, "missing", "good", CLOUD, Why.MODEL_MISSING, "not served here; answered by the cloud"),
        (Policy.EDGE_FIRST, Privacy.ANY, "loading", "good", CLOUD, Why.MODEL_NOT_READY, "still loading; answered by the cloud"),
        (Policy.EDGE_FIRST, Privacy.ANY, "slow", "good", CLOUD, Why.TOO_SLOW, "11 s (queue and run), but 10 s are left"),
        (Policy.CLOUD_FIRST, Privacy.ANY, "ready", "open", EDGE, Why.BREAKER_OPEN, "breaker is open; answered by the edge"),
        (Policy.CLOUD_FIRST, Privacy.ANY, "ready", "none", EDGE, Why.NO_GATEWAY, "no gateway"),
        (Policy.CLOUD_FIRST, Privacy.ANY, "ready", "slow", EDGE, Why.TOO_SLOW, "11 s, but 10 s are left"),
        (Policy.CLOUD_FIRST, Privacy.LOCAL_ONLY, "ready", "good", EDGE, Why.PRIVACY, "privacy=local_only"),
    ],
)  # fmt: skip
def test_second_choices(
    policy: Policy, privacy: Privacy, local: str, cloud: str, arm: ServedBy, why: Why, reason: str
) -> None:
    decision = decide(policy, facts(privacy=privacy), LOCAL[local], GATEWAY[cloud], NOW)
    assert isinstance(decision, Plan)
    step = decision.steps[0]
    assert (step.arm, step.why) == (arm, why)
    assert reason in step.reason
    assert step.is_worth_telling


def test_a_deadline_that_has_passed_is_refused_at_once() -> None:
    decision = decide(Policy.EDGE_FIRST, facts(deadline=NOW), LOCAL["ready"], GATEWAY["good"], NOW)
    assert isinstance(decision, Refusal)
    assert isinstance(decision.error, DeadlineExceededError)


@pytest.mark.parametrize(
    ("edge_s", "cloud_s", "first"), [(0.01, 0.02, EDGE), (0.02, 0.01, CLOUD), (None, 0.01, EDGE), (1.0, None, EDGE)]
)
def test_fastest_takes_the_arm_that_is_predicted_to_answer_first(
    edge_s: float | None, cloud_s: float | None, first: ServedBy
) -> None:
    decision = decide(Policy.FASTEST, facts(), LocalState(predicted_s=edge_s), CloudState(True, True, cloud_s), NOW)
    assert arms(decision)[0] is first
    assert len(arms(decision)) == 2


@pytest.mark.parametrize(
    ("local", "cloud", "reserve_s"),
    [
        (LocalState(predicted_s=0.01), CloudState(True, True, 2.0), 2.0 * FALLBACK_MARGIN),
        (LocalState(), CloudState(True, True, 2.0), 2.0 * FALLBACK_MARGIN),
        (LocalState(predicted_s=0.01), CloudState(True, True), 10.0 * FALLBACK_SHARE),
        (LocalState(predicted_s=8.0), CloudState(True, True, 2.0), 0.0),  # it needs the time itself
        (LocalState(), CloudState(True, True, 9.0), 0.0),  # no reserve would be enough
        (LocalState(predicted_s=0.01), NO_GATEWAY, 0.0),
    ],
)
def test_the_first_arm_leaves_the_second_enough_time(local: LocalState, cloud: CloudState, reserve_s: float) -> None:
    decision = decide(Policy.EDGE_FIRST, facts(), local, cloud, NOW)
    assert isinstance(decision, Plan)
    assert decision.steps[0].deadline == pytest.approx(DEADLINE - reserve_s)
    assert decision.steps[-1].deadline == DEADLINE


CALLER = {
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.CallerError) and cls is not errors.CallerError
}
ALL = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EdgewardError)}
STAY_AT_EDGE = (CALLER - {ModelNotFoundError}) | {errors.CallerError, errors.CancelledError}
STAY_IN_CLOUD = STAY_AT_EDGE - {errors.PayloadTooLargeError, UnsupportedError}


@pytest.mark.parametrize("cls", sorted(ALL, key=lambda cls: cls.__name__))
def test_which_failures_fall_back(cls: type[EdgewardError]) -> None:
    assert may_fall_back(EDGE, cls("text")) == (cls not in STAY_AT_EDGE)
    assert may_fall_back(CLOUD, cls("text")) == (cls not in STAY_IN_CLOUD)


def plan(policy: Policy = Policy.EDGE_FIRST) -> Plan:
    decision = decide(policy, facts(), LOCAL["ready"], GATEWAY["good"], NOW)
    assert isinstance(decision, Plan)
    return decision


@pytest.mark.parametrize(
    ("policy", "other", "why", "failed"),
    [(Policy.EDGE_FIRST, CLOUD, Why.EDGE_FAILED, "edge"), (Policy.CLOUD_FIRST, EDGE, Why.CLOUD_FAILED, "cloud")],
)
def test_after_a_failure_the_other_arm_comes_with_its_reason(
    policy: Policy, other: ServedBy, why: Why, failed: str
) -> None:
    step = after_failure(plan(policy), plan(policy).steps[0], ExecutionError("it broke"), NOW + 1)
    assert step is not None
    assert (step.arm, step.why, step.deadline) == (other, why, DEADLINE)
    assert step.reason == f"{failed} failed: it broke; answered by the {other}"


def test_there_is_no_third_arm() -> None:
    whole = plan()
    second = after_failure(whole, whole.steps[0], ExecutionError("broken"), NOW)
    assert second is not None
    assert after_failure(whole, second, ExecutionError("broken too"), NOW) is None


def test_nothing_follows_once_the_time_is_up_or_the_caller_is_wrong() -> None:
    whole = plan()
    assert after_failure(whole, whole.steps[0], ExecutionError("broken"), DEADLINE) is None
    assert after_failure(whole, whole.steps[0], InvalidInputError("no such input"), NOW) is None


@pytest.mark.parametrize("local", ["missing", "slow"])
def test_an_error_of_a_device_without_a_gateway_is_not_about_gateways(local: str) -> None:
    decision = decide(Policy.EDGE_FIRST, facts(Route.AUTO, Privacy.ANY), LOCAL[local], NO_GATEWAY, NOW)
    assert isinstance(decision, Refusal)
    assert "gateway" not in str(decision.error)
    assert "edge was not asked" not in str(decision.error)


def test_both_stories_under_the_first_class() -> None:
    error = retell([(EDGE, OverloadedError("full", 3.0)), (CLOUD, PeerUnreachableError("refused"))], [])
    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == 3.0
    assert str(error) == "edge failed: full; cloud failed: refused"


def test_an_arm_without_the_model_lets_the_other_speak() -> None:
    error = retell([(EDGE, ModelNotFoundError("not here")), (CLOUD, PeerUnreachableError("refused"))], [])
    assert isinstance(error, PeerUnreachableError)
    assert str(error) == "edge failed: not here; cloud failed: refused"


def test_a_single_story_stays_as_it_is() -> None:
    told = ExecutionError("it broke")
    assert retell([(EDGE, told)], []) is told

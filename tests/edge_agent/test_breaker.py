"""The breaker: the documented course of events, then any course at all against its promises."""

import random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from edge_agent.breaker import Breaker, BreakerSettings, BreakerState, Outcome, Permission

SETTINGS = BreakerSettings()


def breaker(draw: float = 0.0, settings: BreakerSettings = SETTINGS) -> Breaker:
    return Breaker(settings, lambda: draw)


def call(subject: Breaker, outcome: Outcome, now: float) -> None:
    permission = subject.begin(now)
    assert permission is not None
    subject.end(permission, outcome, now)


def opened(now: float = 0.0, draw: float = 0.0) -> Breaker:
    subject = breaker(draw)
    for _ in range(SETTINGS.failures_to_open):
        call(subject, Outcome.FAILURE, now)
    assert subject.verdict(now).state is BreakerState.OPEN
    return subject


def test_it_opens_after_enough_failures_and_no_sooner() -> None:
    subject = breaker()
    for _ in range(SETTINGS.failures_to_open - 1):
        call(subject, Outcome.FAILURE, 0.0)
    assert subject.verdict(0.0).is_permitted
    call(subject, Outcome.FAILURE, 0.0)
    assert not subject.verdict(0.0).is_permitted
    assert subject.begin(0.0) is None


def test_failures_that_left_the_window_do_not_count() -> None:
    subject = breaker()
    for _ in range(SETTINGS.failures_to_open - 1):
        call(subject, Outcome.FAILURE, 0.0)
    call(subject, Outcome.FAILURE, SETTINGS.window_s + 1)
    assert subject.verdict(SETTINGS.window_s + 1).state is BreakerState.CLOSED


def test_few_failures_among_many_answers_do_not_open() -> None:
    subject = breaker()
    for _ in range(10):
        call(subject, Outcome.SUCCESS, 0.0)
    for _ in range(9):
        call(subject, Outcome.FAILURE, 0.0)
    assert subject.verdict(0.0).state is BreakerState.CLOSED
    call(subject, Outcome.FAILURE, 0.0)
    assert subject.verdict(0.0).state is BreakerState.OPEN


def test_half_open_lets_one_probe_through_and_its_success_closes() -> None:
    subject = opened()
    now = SETTINGS.open_s
    probe = subject.begin(now)
    assert probe is not None
    assert probe.is_probe
    assert subject.begin(now) is None
    subject.end(probe, Outcome.SUCCESS, now)
    assert subject.verdict(now).state is BreakerState.CLOSED


def test_a_withdrawn_probe_makes_room_for_the_next() -> None:
    subject = opened()
    now = SETTINGS.open_s
    probe = subject.begin(now)
    assert probe is not None
    subject.end(probe, Outcome.UNKNOWN, now)
    assert subject.begin(now) is not None


def test_open_times_grow_to_the_cap_and_start_again_after_success() -> None:
    subject = opened()
    now, waits = 0.0, []
    for _ in range(2000):
        waits.append(subject.verdict(now).retry_in_s)
        now += waits[-1]
        call(subject, Outcome.FAILURE, now)
    assert waits[:5] == pytest.approx([0.5, 1.0, 2.0, 2.5, 2.5])
    assert max(waits) == pytest.approx(SETTINGS.open_cap_s)
    now += SETTINGS.open_cap_s
    call(subject, Outcome.SUCCESS, now)
    for _ in range(SETTINGS.failures_to_open):
        call(subject, Outcome.FAILURE, now)
    assert subject.verdict(now).retry_in_s == pytest.approx(SETTINGS.open_s)


@pytest.mark.parametrize(("draw", "share"), [(0.0, 1.0), (0.5, 0.75), (0.999999, 0.5)])
def test_open_times_are_jittered(draw: float, share: float) -> None:
    assert opened(draw=draw).verdict(0.0).retry_in_s == pytest.approx(SETTINGS.open_s * share, rel=1e-3)


def test_an_answer_to_a_call_from_before_it_opened_does_not_close_it() -> None:
    subject = breaker()
    early = subject.begin(0.0)
    assert early is not None
    for _ in range(SETTINGS.failures_to_open):
        call(subject, Outcome.FAILURE, 0.0)
    subject.end(early, Outcome.SUCCESS, 0.1)
    assert subject.verdict(0.1).state is BreakerState.OPEN


def test_failures_from_before_an_outage_do_not_count_after_it() -> None:
    subject = opened()
    now = SETTINGS.open_cap_s
    call(subject, Outcome.SUCCESS, now)
    call(subject, Outcome.FAILURE, now)
    assert subject.verdict(now).state is BreakerState.CLOSED


class AnyCourse(RuleBasedStateMachine):
    """Calls that begin, end in any order and outcome, and time that passes."""

    permissions: Bundle[Permission] = Bundle("permissions")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(SETTINGS, random.Random(0).random)
        self.probes: set[int] = set()
        self.failures: list[float] = []
        self.before = BreakerState.CLOSED

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permissions)
    def begin(self) -> object:
        verdict = self.breaker.verdict(self.now)
        permission = self.breaker.begin(self.now)
        assert (permission is not None) == verdict.is_permitted
        if permission is None:
            return multiple()
        assert permission.is_probe == (verdict.state is BreakerState.HALF_OPEN)
        if permission.is_probe:
            assert not self.probes, "two probes at a time"
            self.probes.add(permission.round)
        return permission

    @rule(permission=consumes(permissions), outcome=st.sampled_from(Outcome))
    def end(self, permission: Permission, outcome: Outcome) -> None:
        before = self.breaker.verdict(self.now).state
        if outcome is Outcome.FAILURE:
            self.failures.append(self.now)
        self.breaker.end(permission, outcome, self.now)
        after = self.breaker.verdict(self.now).state
        if permission.is_probe:
            self.probes.discard(permission.round)
            if outcome is Outcome.SUCCESS:
                assert after is BreakerState.CLOSED
            elif outcome is Outcome.FAILURE:
                assert after is BreakerState.OPEN
        if before is BreakerState.CLOSED and after is BreakerState.OPEN:
            recent = [at for at in self.failures if self.now - at <= SETTINGS.window_s]
            assert len(recent) >= SETTINGS.failures_to_open
            assert outcome is Outcome.FAILURE
        if before is not BreakerState.CLOSED and after is BreakerState.CLOSED:
            assert permission.is_probe

    @invariant()
    def open_never_lasts_longer_than_the_cap(self) -> None:
        assert self.breaker.verdict(self.now).retry_in_s <= SETTINGS.open_cap_s
        if not self.probes:
            assert self.breaker.verdict(self.now + SETTINGS.open_cap_s).is_permitted


TestAnyCourse = pytest.mark.slow(AnyCourse.TestCase)

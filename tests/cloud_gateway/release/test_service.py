"""On the way of every request: who answers, what is noted, and that a candidate's failure is nobody's."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from cloud_gateway.guards import Arm
from cloud_gateway.release import released
from cloud_gateway.release.active import MOST_KEPT_FOR_REPORT, ActiveRelease
from cloud_gateway.release.answering import Answered, Traffic
from cloud_gateway.release.failing import BROKEN_AFTER, BROKEN_AFTER_S
from cloud_gateway.release.fence import FENCED
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.plan import ReleasePlan, parse_plan
from cloud_gateway.release.released import ByCandidate
from cloud_gateway.release.service import ReleaseService
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.store import Release
from runtime.errors import (
    CancelledError,
    ConflictError,
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
)
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameter
from tests.cloud_gateway.release.fakes import Clock, FakeWatch
from tests.cloud_gateway.release.gateways import PATIENCE_S
from tests.cloud_gateway.release.test_plan import LEAST
from tests.runtime.serving.fake_service import FakeService

PLAN = parse_plan(LEAST + 'segment = "country"')
LABELLED = parse_plan(LEAST + 'segment = "country"\n[[guards]]\nmetric = "loss"\nmargin = 0.02')


@dataclass
class Inner(FakeService):
    """Answers with its version, or fails in one."""

    failing: dict[str, Callable[[], BaseException]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request.version)
        if request.version in self.failing:
            raise self.failing[request.version]()
        return InferenceResponse(
            request.model, request.version or "newest", {"y": np.zeros(1)}, request.id, {"served_by": "cloud"}
        )

    async def is_model_ready(self, name: str, version: str) -> bool:
        self.asked.append(version)
        return True


def activate(traffic: Traffic, share: float, plan: ReleasePlan = PLAN) -> ActiveRelease:
    release = Release(7, plan, ReleaseState(Status.RUNNING, share, 0), {}, 0, 0)
    traffic.active[plan.model] = ActiveRelease(release, FakeWatch)
    return traffic.active[plan.model]


def request(**parameters: Parameter) -> InferenceRequest:
    return InferenceRequest("digits", {"x": np.zeros(1)}, parameters=parameters)


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def service(inner: Inner, traffic: Traffic) -> ReleaseService:
    return ReleaseService(inner, traffic)


async def test_without_a_release_nothing_changes(service: ReleaseService, inner: Inner, traffic: Traffic) -> None:
    reply = await service.infer(request())
    assert reply.version == "newest"
    assert "release" not in reply.parameters
    traffic.pins["digits"] = "3"
    assert (await service.infer(request())).version == "3"
    assert (await service.infer(InferenceRequest("digits", {}, version="5"))).version == "5"
    await service.is_model_ready("digits", "")
    assert inner.asked[-1] == "3"


async def test_each_arm_says_its_name_and_keys_stick(service: ReleaseService, traffic: Traffic) -> None:
    active = activate(traffic, 0.5)
    told: dict[str, set[object]] = {}
    for _ in range(3):
        for user in range(60):
            reply = await service.infer(request(routing_key=f"user-{user}"))
            arm = reply.parameters["release"]
            assert reply.version == ("2" if arm == "candidate" else "1")
            assert reply.parameters["served_by"] == "cloud"
            told.setdefault(f"user-{user}", set()).add(arm)
    assert {len(arms) for arms in told.values()} == {1}
    assert set.union(*told.values()) == {"stable", "candidate"}
    while active.absorb(100):
        pass
    counts = active.evidence.counts.arms
    assert counts[Arm.STABLE].requests + counts[Arm.CANDIDATE].requests == 180
    assert counts[Arm.CANDIDATE].requests == active.evidence.watch.counts["candidate"]  # type: ignore[attr-defined]


async def test_the_id_is_the_key_where_there_is_no_other(service: ReleaseService, traffic: Traffic) -> None:
    activate(traffic, 0.5)
    by_id = [await service.infer(InferenceRequest("digits", {}, id="same")) for _ in range(10)]
    assert len({reply.version for reply in by_id}) == 1
    by_chance = [await service.infer(InferenceRequest("digits", {})) for _ in range(60)]
    assert len({reply.version for reply in by_chance}) == 2


@pytest.mark.parametrize(("share", "version"), [(0.0, "1"), (1.0, "2")])
async def test_where_one_version_has_all_of_the_traffic_no_key_is_hashed(
    service: ReleaseService, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, share: float, version: str
) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError("it takes a sixth of what a release adds to a request")

    monkeypatch.setattr(released, "place", refuse)
    activate(traffic, share)
    assert (await service.infer(request(routing_key="user-7"))).version == version


async def test_a_version_that_is_asked_for_is_left_alone(service: ReleaseService, traffic: Traffic) -> None:
    active = activate(traffic, 1.0)
    reply = await service.infer(InferenceRequest("digits", {}, version="1"))
    assert reply.version == "1"
    assert "release" not in reply.parameters
    active.absorb(100)
    assert active.evidence.counts.arms[Arm.STABLE].requests == 0


@pytest.mark.parametrize(
    "error",
    [
        ExecutionError("it crashed"),
        OverloadedError("full"),
        ModelNotFoundError("version 2 is gone"),
        EdgewardError("?"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_stable_answers_for_a_candidate_that_fails(
    service: ReleaseService, inner: Inner, traffic: Traffic, error: EdgewardError
) -> None:
    active = activate(traffic, 1.0)
    inner.failing["2"] = lambda: error
    reply = await service.infer(request(country="de"))
    assert (reply.version, reply.parameters["release"]) == ("1", "stable")
    assert reply.parameters["reason"] == f"the candidate failed: {error}; answered by stable"
    active.absorb(100)
    (seen,) = active.evidence.watch.seen  # type: ignore[attr-defined]
    assert (seen.arm, seen.is_error, seen.segment) == (Arm.CANDIDATE, True, "de")
    assert (active.evidence.counts.replaced, active.evidence.counts.arms[Arm.CANDIDATE].errors) == (1, 1)


@pytest.mark.parametrize("error", [InvalidInputError("wrong shape"), CancelledError("gone")])
async def test_what_is_the_callers_doing_counts_for_nobody(
    service: ReleaseService, inner: Inner, traffic: Traffic, error: BaseException
) -> None:
    active = activate(traffic, 1.0)
    inner.failing["2"] = lambda: error
    with pytest.raises(type(error)):
        await service.infer(request())
    active.absorb(100)
    assert active.evidence.watch.seen == []  # type: ignore[attr-defined]
    assert inner.asked == ["2"]


async def test_a_caller_that_goes_away_counts_for_nobody(inner: Inner, traffic: Traffic) -> None:
    active = activate(traffic, 1.0)
    is_asked, gave_up = asyncio.Event(), []

    async def wait_for_ever(request: InferenceRequest) -> InferenceResponse:
        is_asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            gave_up.append(request.version)
            raise
        raise AssertionError

    inner.infer = wait_for_ever  # type: ignore[method-assign]
    service = ReleaseService(inner, traffic)
    asking = asyncio.create_task(service.infer(request()))
    await is_asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0)
    active.absorb(100)
    assert active.evidence.watch.seen == []  # type: ignore[attr-defined]
    assert gave_up == ["2"], "and stable is not asked"


async def test_a_missed_deadline_counts_and_is_not_tried_again(
    service: ReleaseService, inner: Inner, traffic: Traffic
) -> None:
    active = activate(traffic, 1.0)
    inner.failing["2"] = lambda: DeadlineExceededError("too slow")
    with pytest.raises(DeadlineExceededError):
        await service.infer(request())
    active.absorb(100)
    assert active.evidence.counts.arms[Arm.CANDIDATE].errors == 1
    assert inner.asked == ["2"]


async def test_stables_failures_are_its_own(service: ReleaseService, inner: Inner, traffic: Traffic) -> None:
    active = activate(traffic, 0.0)
    inner.failing["1"] = lambda: ExecutionError("stable broke")
    with pytest.raises(ExecutionError):
        await service.infer(request())
    active.absorb(100)
    assert active.evidence.counts.arms[Arm.STABLE].errors == 1


async def test_a_split_holds_from_the_next_request_on(service: ReleaseService, traffic: Traffic) -> None:
    active = activate(traffic, 0.0)
    for share, expected in ((1.0, "2"), (0.0, "1"), (1.0, "2")):
        active.move(ReleaseState(Status.RUNNING, share, 0))
        assert {(await service.infer(request())).version for _ in range(20)} == {expected}
    assert active.evidence.watch.shares == [0.0, 1.0, 0.0, 1.0]  # type: ignore[attr-defined]


def test_a_candidate_that_always_fails_is_broken_and_one_bad_batch_is_not(traffic: Traffic) -> None:
    clock = Clock()
    release = Release(7, PLAN, ReleaseState(Status.SETTLING, 1.0, 0), {}, 0, 0)
    active = ActiveRelease(release, FakeWatch, None, clock)
    for _ in range(BROKEN_AFTER):
        active.note_candidate("boom")
    assert active.broken_because(clock.now) is None, "all of it in one moment"
    clock.now += BROKEN_AFTER_S
    assert "boom" in (active.broken_because(clock.now) or "")
    active.note_candidate(None)
    assert active.broken_because(clock.now) is None


async def test_answers_that_labels_are_to_judge_are_told_to_whoever_keeps_them(
    service: ReleaseService, traffic: Traffic
) -> None:
    told: list[Answered] = []
    traffic.on_answer = told.append
    await service.infer(request())
    activate(traffic, 1.0)
    await service.infer(request())
    assert told == []  # no guard of this one looks at labels
    activate(traffic, 1.0, LABELLED)
    await service.infer(InferenceRequest("digits", {}, id="r1", parameters={"country": "fr"}))
    (one,) = told
    assert (one.release, one.version, one.arm, one.request_id, one.segment) == (7, "2", Arm.CANDIDATE, "r1", "fr")


def test_for_a_shadows_report_alone_a_bounded_number_of_compared_requests_is_told(traffic: Traffic) -> None:
    told: list[Answered] = []
    traffic.on_answer = told.append
    active = activate(traffic, 0.0, parse_plan(LEAST + 'strategy = "shadow"'))
    assert active.left_for_report == MOST_KEPT_FOR_REPORT
    active.left_for_report = 2
    one, two = {"y": np.zeros(1)}, {"y": np.ones(1)}
    for request_id in ("", "r1", "r2", "r3"):
        traffic.tell(Mirrored(request_id, "fr", None, one, None if request_id == "r2" else two), active)
    assert [(said.request_id, said.version, said.arm, said.is_shadow) for said in told] == [
        ("r1", "1", Arm.STABLE, False),
        ("r1", "2", Arm.CANDIDATE, True),
        ("r2", "1", Arm.STABLE, False),
    ]
    assert [said.outputs for said in told] == [one, two, one]


@pytest.mark.parametrize(("has_failed", "version"), [(False, "2"), (True, "1")])
async def test_who_keeps_answers_and_raises_costs_no_caller_its_answer(
    service: ReleaseService,
    inner: Inner,
    traffic: Traffic,
    caplog: pytest.LogCaptureFixture,
    has_failed: bool,
    version: str,
) -> None:
    def refuse(_: Answered) -> None:
        raise ValueError("no such shape")

    traffic.on_answer = refuse
    active = activate(traffic, 1.0, LABELLED)
    if has_failed:
        inner.failing["2"] = lambda: ExecutionError("it crashed")
    for _ in range(2):
        assert (await asyncio.wait_for(service.infer(request()), PATIENCE_S)).version == version
    assert active.describe()["lost_observations"] == 2
    assert caplog.text.count("cannot be kept: ValueError('no such shape')") == 1, "said once"


async def test_what_goes_wrong_with_stables_answer_instead_is_told_to_its_caller(
    service: ReleaseService, inner: Inner, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> dict[str, Parameter]:
        raise ZeroDivisionError

    activate(traffic, 1.0)
    inner.failing["2"] = lambda: ExecutionError("it crashed")
    monkeypatch.setattr(ByCandidate, "_parameters", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(service.infer(request()), PATIENCE_S)


async def test_what_was_seen_is_noted_once_the_caller_has_its_answer(
    service: ReleaseService, traffic: Traffic, caplog: pytest.LogCaptureFixture
) -> None:
    active = activate(traffic, 1.0)
    known: list[int] = []

    def count() -> None:
        active.absorb(10)
        known.append(active.evidence.counts.arms[Arm.CANDIDATE].requests)

    for _ in range(2):
        is_told = asyncio.Event()

        def told(*_: object, is_told: asyncio.Event = is_told) -> None:
            count()
            is_told.set()

        service.ask(request(), told)
        await asyncio.wait_for(is_told.wait(), PATIENCE_S)
        count()
    assert known == [0, 1, 1, 2]

    def fail(_: object) -> None:
        raise ZeroDivisionError

    active.note_request = fail  # type: ignore[method-assign,assignment]
    for _ in range(2):
        assert (await asyncio.wait_for(service.infer(request()), PATIENCE_S)).version == "2"
    assert active.describe()["lost_observations"] == 2
    assert caplog.text.count("ZeroDivisionError()") == 1, "said once"


@dataclass
class Taken:
    """A mirror that has run these."""

    done: list[Mirrored]

    def take(self, at_most: int) -> list[Mirrored]:
        taken, self.done = self.done[:at_most], self.done[at_most:]
        return taken


def test_who_keeps_answers_and_raises_costs_the_guards_no_mirrored_request(
    traffic: Traffic, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Answered] = []

    def refuse_the_first(answered: Answered) -> None:
        if answered.request_id == "r1":
            raise ValueError("no such shape")
        told.append(answered)

    traffic.on_answer = refuse_the_first
    active = activate(traffic, 0.0, parse_plan(LEAST + 'strategy = "shadow"'))
    one = {"y": np.zeros(1)}
    active.mirror = Taken([Mirrored(name, "", None, one, one) for name in ("r1", "r2", "r3")])  # type: ignore[assignment]
    active.on_mirrored = lambda mirrored: traffic.tell(mirrored, active)
    assert not active.absorb(10)
    assert len(active.evidence.watch.seen) == 3  # type: ignore[attr-defined]
    assert [said.request_id for said in told] == ["r2", "r2", "r3", "r3"]
    assert active.lost == 1
    assert active.left_for_report == MOST_KEPT_FOR_REPORT - 3, "the bound holds, whatever is lost"
    assert "cannot be kept: ValueError('no such shape')" in caplog.text


async def test_requests_that_a_shadow_did_not_compare_are_not_told(service: ReleaseService, traffic: Traffic) -> None:
    told: list[Answered] = []
    traffic.on_answer = told.append
    activate(traffic, 0.0, parse_plan(LEAST + 'strategy = "shadow"'))
    await service.infer(InferenceRequest("digits", {}, id="r1"))
    assert told == []


def test_with_a_guard_on_losses_a_mirrored_request_tells_what_its_caller_did_not_get(traffic: Traffic) -> None:
    told: list[Answered] = []
    traffic.on_answer = told.append
    loss_guard = '\n[[guards]]\nmetric = "loss"\nmargin = 0.1'
    active = activate(traffic, 0.0, parse_plan(LEAST + 'strategy = "shadow"' + loss_guard))
    assert (active.waits_for_labels, active.left_for_report) == (True, 0)
    traffic.tell(Mirrored("r1", "", None, {}, {}), active)
    assert [(said.arm, said.is_shadow) for said in told] == [(Arm.CANDIDATE, True)]


async def test_who_cannot_know_what_was_decided_answers_with_stable(service: ReleaseService, traffic: Traffic) -> None:
    active = activate(traffic, 1.0)
    active.fence.trusted_until = time.perf_counter() + 60
    assert (await service.infer(request())).version == "2"
    active.fence.trusted_until = time.perf_counter()
    reply = await service.infer(request())
    assert (reply.version, reply.parameters["release"], reply.parameters["reason"]) == ("1", "stable", FENCED)
    assert active.describe()["fenced_answers"] == 1
    assert active.fence.is_up
    assert "cannot be asked" in active.describe()["trouble"]
    active.fence.trusted_until = time.perf_counter() + 60
    assert (await service.infer(request())).version == "2"
    assert active.describe()["trouble"] is None


async def test_a_model_is_not_unloaded_under_its_release(
    service: ReleaseService, inner: Inner, traffic: Traffic
) -> None:
    activate(traffic, 0.1)
    for change in (service.load("digits", {}), service.unload("digits")):
        with pytest.raises(ConflictError, match="edgeward release abort digits"):
            await change
    await service.unload("add")
    assert inner.unloaded == ["add"]


def test_what_was_seen_survives_a_restart() -> None:
    traffic = Traffic()
    active = activate(traffic, 0.5)
    for arm in (Arm.STABLE, Arm.CANDIDATE, Arm.CANDIDATE):
        active.note_request((arm, arm is Arm.CANDIDATE, 0.01, 7, "", 0.5, False))
    active.absorb(10)
    saved: dict[str, Any] = active.evidence.to_state()
    again = ActiveRelease(Release(7, PLAN, active.state, saved, 0, 0), FakeWatch)
    assert again.evidence.to_state() == saved
    assert again.evidence.counts.arms[Arm.CANDIDATE].requests == 2


def test_requests_that_were_routed_before_a_switch_do_not_make_the_new_split_look_wrong() -> None:
    plan = parse_plan('model = "digits"\nstable = 1\ncandidate = 2\nstages = [5, 50, 100]')
    active = ActiveRelease(Release(7, plan, ReleaseState(Status.RUNNING, 0.05, 0), {}, 0, 0))
    for number in range(400):  # while the step forward waited for its disk
        arm = Arm.CANDIDATE if number % 20 == 0 else Arm.STABLE
        active.note_request((arm, False, 0.01, number << 48, "", 0.05, False))
    active.move(ReleaseState(Status.RUNNING, 0.5, 1))
    for number in range(400, 440):
        arm = Arm.CANDIDATE if number % 2 else Arm.STABLE
        active.note_request((arm, False, 0.01, number << 48, "", 0.5, False))
    active.absorb(1000)
    verdict = active.evidence.watch.judge()
    assert "not split as planned" not in verdict.reason
    assert verdict.findings[0].stable_count == verdict.findings[0].candidate_count == 20
    assert active.evidence.counts.arms[Arm.CANDIDATE].requests == 40, "they are counted all the same"


@pytest.mark.parametrize("form", [{"of": "another version"}, [], [[0]]])
@pytest.mark.parametrize(("part", "other"), [("counts", "watch"), ("watch", "counts")])
def test_evidence_that_cannot_be_read_begins_anew_and_costs_no_other(
    part: str, other: str, form: object, caplog: pytest.LogCaptureFixture
) -> None:
    state = ReleaseState(Status.RUNNING, 0.1, 0)
    active = ActiveRelease(Release(7, PLAN, state, {}, 0, 0))
    fresh = json.loads(json.dumps(active.evidence.to_state()))
    active.note_request((Arm.CANDIDATE, True, 0.01, 7, "", 0.1, False))
    active.absorb(10)
    saved = json.loads(json.dumps(active.evidence.to_state()))
    assert saved[part] != fresh[part]
    again = ActiveRelease(Release(7, PLAN, state, {**saved, part: form}, 0, 0)).evidence.to_state()
    assert again[other] == saved[other]
    assert again[part] == fresh[part]
    assert f"the {part} in the evidence of release 7" in caplog.text
    assert "begins anew" in caplog.text


async def test_replies_of_an_arm_bring_one_mapping_that_encoders_know_again(traffic: Traffic) -> None:
    """One made for each reply has each of them encoded from nothing."""
    local, said = Inner(), {"served_by": "cloud"}

    async def infer(asked: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(asked.model, asked.version, {"y": np.zeros(1)}, asked.id, said)

    local.infer = infer  # type: ignore[assignment, method-assign]
    service = ReleaseService(local, traffic)
    activate(traffic, 0.5)
    replies = [await service.infer(request(routing_key=f"user-{number}")) for number in range(40)]
    by_arm = {arm: [r.parameters for r in replies if r.parameters["release"] == arm] for arm in ("stable", "candidate")}
    for told in by_arm.values():
        assert len(told) > 5
        assert all(one is told[0] for one in told)

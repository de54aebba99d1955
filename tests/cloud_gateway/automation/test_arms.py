"""Labels for a release: what each arm said is kept, and a label says what each has lost."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from cloud_gateway.automation.arms import MOST_WAITING, ArmAnswers
from cloud_gateway.automation.labels import Taken
from cloud_gateway.automation.late_labels import LateLabels
from cloud_gateway.automation.queue import Why
from cloud_gateway.automation.store import AutomationStore
from cloud_gateway.guards import Arm, LabelledObservation
from cloud_gateway.release.answering import Answered, Traffic
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.report import PersonBeside, ReleaseCounts
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.store import Release
from runtime.errors import StorageError
from tests.cloud_gateway.automation.conftest import House
from tests.cloud_gateway.release.test_plan import LEAST


@dataclass
class Released:
    """A release of model mnist as far as answers are concerned."""

    house: House
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self.arms = ArmAnswers(self.house.store, self.traffic)

    def release(self, number: int) -> Release:
        plan = parse_plan(LEAST.replace("digits", "mnist"))
        return Release(number, plan, ReleaseState(Status.RUNNING, 0.1, 0), {}, 0, 0)

    def read(self, release: int = 1) -> list[object]:
        late = LateLabels(self.house.store)
        rows = late.read(self.release(release), 0, late.newest(), 100)
        return [row.observation for row in rows if row.observation is not None]

    def say(self, request_id: str, arm: Arm, answer: int, *, is_shadow: bool = False, release: int = 1) -> None:
        scores = np.eye(10)[[answer]]
        assert self.traffic.on_answer is not None
        self.traffic.on_answer(Answered("mnist", "2", release, arm, request_id, "night", {"p": scores}, is_shadow))


@pytest.fixture
def released(house: House) -> Released:
    return Released(house)


async def test_a_label_says_what_both_arms_have_lost(released: Released) -> None:
    released.say("r1", Arm.STABLE, 3)
    released.say("r1", Arm.CANDIDATE, 5, is_shadow=True)
    await released.arms.flush()
    assert released.house.labels.take("mnist", "r1", 5).taken is Taken.ACCEPTED
    assert released.house.labels.take("mnist", "r1", 5).taken is Taken.KNOWN
    assert released.read() == [LabelledObservation(1.0, 0.0, "night")], "a label counts once"


async def test_an_arm_that_was_not_asked_has_lost_nothing(released: Released) -> None:
    released.say("r1", Arm.CANDIDATE, 5)
    await released.arms.flush()
    released.house.labels.take("mnist", "r1", 3)
    assert released.read() == [LabelledObservation(None, 1.0, "night")]


async def test_a_label_in_parts_counts_once_it_is_whole(released: Released) -> None:
    two = {"p": np.eye(10)[[3, 4]]}
    assert released.traffic.on_answer is not None
    released.traffic.on_answer(Answered("mnist", "2", 1, Arm.STABLE, "r1", "", two, False))
    await released.arms.flush()
    released.house.labels.take("mnist", "r1", [3, None])
    assert released.read() == []
    released.house.labels.take("mnist", "r1", [None, 5])
    assert released.read() == [LabelledObservation(0.5, None)]


async def test_a_release_is_told_of_its_own_answers(released: Released) -> None:
    released.say("r1", Arm.STABLE, 3, release=1)
    released.say("r1", Arm.CANDIDATE, 5, release=2)
    await released.arms.flush()
    released.house.labels.take("mnist", "r1", 5)
    assert released.read(1) == [LabelledObservation(1.0, None, "night")]
    assert released.read(2) == [LabelledObservation(None, 0.0, "night")]
    assert released.read(3) == []


async def test_labels_are_read_in_parts_and_behind_what_was_read(released: Released) -> None:
    for at in range(5):
        released.say(f"r{at}", Arm.STABLE, at)
    await released.arms.flush()
    for at in range(5):
        released.house.labels.take("mnist", f"r{at}", at)
    late, release = LateLabels(released.house.store), released.release(1)
    newest = late.newest()
    first = late.read(release, 0, newest, 2)
    assert [row.number for row in [*first, *late.read(release, first[-1].number, newest - 1, 10)]] == [1, 2, 3, 4]
    assert late.read(replace(release, plan=parse_plan(LEAST)), 0, newest, 10) == [], "another model"


async def test_a_flush_waits_for_what_is_being_written(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    write = released.arms._write

    def slowly(batch: Any) -> None:
        has_begun.set()
        assert may_end.wait(20)
        write(batch)

    monkeypatch.setattr(released.arms, "_write", slowly)
    released.say("r1", Arm.STABLE, 3)
    first = asyncio.create_task(released.arms.flush())
    await asyncio.to_thread(has_begun.wait, 20)
    second = asyncio.create_task(released.arms.flush())  # a label has come, and is about what is being written
    await asyncio.sleep(0.05)
    assert not second.done()
    may_end.set()
    await asyncio.gather(first, second)
    assert released.house.labels.take("mnist", "r1", 3).taken is Taken.ACCEPTED


async def test_people_stand_beside_both_arms_where_they_answered_blind(released: Released, house: House) -> None:
    assert released.traffic.on_answer is not None
    for at, (person, why, is_blind) in enumerate(
        [(4, Why.LEVEL, True), (3, Why.LEVEL, True), (4, Why.LEVEL, False), (4, Why.LOW_CONFIDENCE, True)]
    ):
        for arm, answer in ((Arm.STABLE, 3), (Arm.CANDIDATE, 5)):
            scores = {"p": np.eye(10)[[answer]]}
            told = Answered("digits", "2", 1, arm, f"r{at}", "night", scores, is_shadow=arm is Arm.CANDIDATE)
            released.traffic.on_answer(told)
        item = house.put(f"r{at}", why=why, is_blind=is_blind)
        house.queue.answer(item, person, "ann")
    await released.arms.flush()
    for at in range(4):
        assert house.labels.take("digits", f"r{at}", 3).taken is Taken.ACCEPTED
    late = LateLabels(house.store)
    release = replace(released.release(1), plan=parse_plan(LEAST))
    rows = late.read(release, 0, late.newest(), 100)
    assert [row.observation for row in rows] == [LabelledObservation(0.0, 1.0, "night")] * 4
    assert [row.person for row in rows] == [
        PersonBeside(1.0, 0.0, 1.0, (("4", "5"),)),
        PersonBeside(0.0, 0.0, 1.0, (("3", "5"),)),
        None,
        None,
    ]
    counts = ReleaseCounts()
    for row in rows:
        assert isinstance(row.observation, LabelledObservation)
        counts.observe_label(row.observation)
        if row.person is not None:
            counts.people.observe(row.person)
    told_losses = counts.describe_losses()
    assert told_losses["segments"]["night"]["difference"] == 1.0
    assert told_losses["people"]["stable"] == {"compared": 2, "people_loss": 0.5, "loss": 0.0}
    assert told_losses["people"]["candidate"] == {"compared": 2, "people_loss": 0.5, "loss": 1.0}
    assert told_losses["people"]["confusion"] == {"4>5": 1, "3>5": 1}
    assert ReleaseCounts.from_state(json.loads(json.dumps(counts.to_state()))).describe_losses() == told_losses


async def test_without_an_id_nothing_is_kept(released: Released) -> None:
    released.say("", Arm.STABLE, 3)
    await released.arms.flush()
    assert released.house.labels.take("mnist", "", 3).taken is Taken.REFUSED


@pytest.mark.parametrize(
    ("request_id", "segment"),
    [("r" * 257, ""), ("r\0", ""), ("r\ud800", ""), ("r1", "a\0")],
    ids=["long id", "NUL in the id", "half a surrogate", "NUL in the segment"],
)
async def test_what_a_database_would_refuse_is_counted_and_keeps_nothing_else_from_being_written(
    released: Released, request_id: str, segment: str
) -> None:
    assert released.traffic.on_answer is not None
    outputs = {"p": np.array([[1.0]])}
    released.traffic.on_answer(Answered("mnist", "2", 1, Arm.STABLE, request_id, segment, outputs, False))
    released.say("r" * 256, Arm.STABLE, 3)
    assert released.arms.lost == 1
    await released.arms.flush()
    assert released.house.labels.take("mnist", "r" * 256, 3).taken is Taken.ACCEPTED


@pytest.mark.parametrize("shape", [(5000, 10), (0, 10)], ids=["too many rows", "none"])
async def test_an_answer_that_no_label_could_be_of_is_counted_and_never_raises(
    released: Released, shape: tuple[int, ...]
) -> None:
    assert released.traffic.on_answer is not None
    released.traffic.on_answer(Answered("mnist", "2", 1, Arm.STABLE, "odd", "", {"p": np.zeros(shape)}, False))
    assert released.arms.lost == 1


async def test_what_cannot_be_written_yet_is_kept_and_what_finds_no_room_counted(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("disk full")

    released.say("r1", Arm.STABLE, 3)
    with monkeypatch.context() as broken:
        broken.setattr(AutomationStore, "record_in", full)
        await released.arms.flush()
    await released.arms.flush()
    assert released.house.labels.take("mnist", "r1", 3).taken is Taken.ACCEPTED, "written once there was room"
    for at in range(MOST_WAITING + 5):
        released.say(f"many-{at}", Arm.STABLE, 3)
    assert released.arms.lost == 5

"""Labels for a release: what each arm said is kept, and a label says what each has lost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from cloud_gateway.automation.arms import MOST_WAITING, ArmAnswers
from cloud_gateway.automation.labels import Taken
from cloud_gateway.automation.store import AutomationStore
from cloud_gateway.guards import Arm, LabelledObservation
from cloud_gateway.release.service import Answered, Traffic
from runtime.errors import StorageError
from tests.cloud_gateway.automation.conftest import House


@dataclass
class Released:
    """A release of model mnist as far as answers are concerned."""

    house: House
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self.arms = ArmAnswers(self.house.store, self.traffic)

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
    outcome = released.house.labels.take("mnist", "r1", 5)
    assert outcome.taken is Taken.ACCEPTED
    assert outcome.observation == LabelledObservation(1.0, 0.0, "night")
    assert released.house.labels.take("mnist", "r1", 5).observation is None, "a label counts once"


async def test_an_arm_that_was_not_asked_has_lost_nothing(released: Released) -> None:
    released.say("r1", Arm.CANDIDATE, 5)
    await released.arms.flush()
    assert released.house.labels.take("mnist", "r1", 3).observation == LabelledObservation(None, 1.0, "night")


async def test_only_the_newest_release_is_told(released: Released) -> None:
    released.say("r1", Arm.STABLE, 3, release=1)
    released.say("r1", Arm.CANDIDATE, 5, release=2)
    await released.arms.flush()
    assert released.house.labels.take("mnist", "r1", 5).observation == LabelledObservation(None, 0.0, "night")


async def test_without_an_id_nothing_is_kept(released: Released) -> None:
    released.say("", Arm.STABLE, 3)
    await released.arms.flush()
    assert released.house.labels.take("mnist", "", 3).taken is Taken.REFUSED


async def test_what_cannot_be_kept_is_counted_and_never_raises(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert released.traffic.on_answer is not None
    odd = {"p": np.zeros((5000, 10))}
    released.traffic.on_answer(Answered("mnist", "2", 1, Arm.STABLE, "big", "", odd, False))
    assert released.arms.lost == 1

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
    assert released.arms.lost == 6

"""Labels for requests of a release: late, twice, in parts, for nobody."""

import numpy as np
import pytest

from cloud_gateway.guards import Arm, LabelledObservation
from cloud_gateway.release.labels import ReleaseLabels, Taken
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.service import Answered, Traffic
from runtime.errors import InvalidInputError
from tests.cloud_gateway.release.test_plan import LEAST
from tests.cloud_gateway.release.test_service import activate

WITH_LOSS = parse_plan(LEAST + '[[guards]]\nmetric = "loss"\nmargin = 0.02')


def answered(arm: Arm, classes: list[int], request_id: str = "r1", release: int = 7) -> Answered:
    outputs = {"scores": np.eye(3, dtype=np.float32)[classes]}
    version = "1" if arm is Arm.STABLE else "2"
    return Answered("digits", version, release, arm, request_id, "de", outputs, is_shadow=arm is Arm.CANDIDATE)


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def labels(traffic: Traffic) -> ReleaseLabels:
    return ReleaseLabels(traffic, max_kept=3)


def test_both_arms_of_a_request_are_paired(traffic: Traffic, labels: ReleaseLabels) -> None:
    active = activate(traffic, 0.5, WITH_LOSS)
    labels.remember(answered(Arm.STABLE, [0]))
    labels.remember(answered(Arm.CANDIDATE, [2]))
    labels.remember(answered(Arm.CANDIDATE, [1], "r2"))
    assert labels.take("digits", "r1", 0) is Taken.ACCEPTED
    assert labels.take("digits", "r1", 0) is Taken.KNOWN
    assert labels.take("digits", "r2", 0) is Taken.ACCEPTED
    active.absorb(10)
    assert active.watch.seen == [  # type: ignore[attr-defined]
        LabelledObservation(0.0, 1.0, "de"),
        LabelledObservation(None, 1.0, "de"),
    ]
    assert active.counts.losses.describe()["paired"] == 1


def test_rows_may_be_labelled_in_part(traffic: Traffic, labels: ReleaseLabels) -> None:
    active = activate(traffic, 0.5, WITH_LOSS)
    labels.remember(answered(Arm.STABLE, [0, 1, 2, 0]))
    assert labels.take("digits", "r1", [0, None, 1, None]) is Taken.ACCEPTED
    active.absorb(10)
    assert active.counts.losses.labelled == 1
    assert active.watch.seen[0].stable_loss == 0.5  # type: ignore[attr-defined]


def test_labels_for_nobody(traffic: Traffic, labels: ReleaseLabels) -> None:
    assert labels.take("digits", "r1", 0) is Taken.UNKNOWN
    activate(traffic, 0.5, WITH_LOSS)
    assert labels.take("digits", "r1", 0) is Taken.UNKNOWN
    labels.remember(answered(Arm.STABLE, [0], release=6))
    assert labels.take("digits", "r1", 0) is Taken.UNKNOWN, "of an earlier release"
    for number in range(5):
        labels.remember(answered(Arm.STABLE, [0], f"x{number}"))
    assert labels.take("digits", "x0", 0) is Taken.UNKNOWN, "too long ago"
    assert labels.take("digits", "x4", 0) is Taken.ACCEPTED


def test_labels_that_are_none(traffic: Traffic, labels: ReleaseLabels) -> None:
    activate(traffic, 0.5, WITH_LOSS)
    labels.remember(answered(Arm.STABLE, [0, 1]))
    for label in ({"a": 1}, float("nan"), [None, None]):
        with pytest.raises(InvalidInputError):
            labels.take("digits", "r1", label)
    assert labels.take("digits", "r1", [0, 1]) is Taken.ACCEPTED


def test_nothing_is_kept_where_no_guard_looks_at_losses(traffic: Traffic, labels: ReleaseLabels) -> None:
    activate(traffic, 0.5)
    labels.remember(answered(Arm.STABLE, [0]))
    assert labels.take("digits", "r1", 0) is Taken.UNKNOWN

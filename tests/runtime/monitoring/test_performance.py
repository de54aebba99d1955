"""Accuracy by late and partial labels, and without any."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.monitoring.analysis import calibration, confusion, newest_disagreements, worst_slices
from runtime.monitoring.performance import LEARN_LABELS, Labelled, LabelledPerformance, estimate_accuracy


def labelled(answer_id: str, label: str, at: float = 0.0) -> Labelled:
    return Labelled(answer_id, "1", label, label == "1", at)


def feed(test: LabelledPerformance, right: np.ndarray, first: int = 0) -> list[int]:
    return [
        at
        for at, is_right in enumerate(right)
        if test.add(labelled(str(first + at), "1" if is_right else "0", float(first + at)))
    ]


def test_a_loss_is_found_and_dated() -> None:
    rng = np.random.default_rng(1)
    test = LabelledPerformance(950, 1000)
    assert feed(test, rng.random(2000) < 0.95) == []
    found = feed(test, rng.random(1000) < 0.80, 2000)
    assert len(found) == 1
    assert found[0] < 300
    assert test.loss is not None
    assert "of the newest" in str(test.loss)
    assert 1800 <= test.loss.since <= 2100


def test_a_loss_is_over_when_the_newest_are_right_again_and_is_told_anew() -> None:
    rng = np.random.default_rng(6)
    test = LabelledPerformance(950, 1000)
    assert len(feed(test, rng.random(600) < 0.70)) == 1
    assert feed(test, rng.random(2000) < 0.95, 600) == []
    assert test.loss is None
    assert len(feed(test, rng.random(600) < 0.70, 2600)) == 1


def test_without_labelled_samples_the_first_labels_are_the_reference() -> None:
    rng = np.random.default_rng(7)
    test = LabelledPerformance(0, 0)
    assert feed(test, rng.random(LEARN_LABELS) < 0.9) == []
    assert not test.is_learning
    assert test.reference[1] == LEARN_LABELS
    assert feed(test, rng.random(500) < 0.9, 1000) == []
    assert len(feed(test, rng.random(500) < 0.4, 2000)) == 1


def test_no_loss_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    alarms = sum(bool(feed(LabelledPerformance(475, 500), rng.random(1000) < 0.95)) for _ in range(40))
    assert alarms <= 3, "5 % of 40 are 2"


def test_labels_that_contradict_each_other_count_for_nothing() -> None:
    test = LabelledPerformance(95, 100)
    test.add(labelled("a", "1"))
    test.add(labelled("a", "1"))
    assert (test.labels, test.right, test.contradictions) == (1, 1, 0)
    test.add(labelled("a", "0"))
    test.add(labelled("a", "1"))
    assert (test.labels, test.right, test.contradictions) == (0, 0, 1)


def test_an_estimate_follows_a_shift_towards_hard_rows() -> None:
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.5, 1, 4000)
    told = estimate_accuracy(sure, rng.random(4000) < sure, rng.uniform(0.5, 0.7, 4000))
    assert told.accuracy == pytest.approx(0.6, abs=0.04)
    assert told.sample_accuracy == pytest.approx(0.75, abs=0.03)
    assert "only labels show it" in told.to_dict()["assumptions"]
    assert estimate_accuracy(sure, sure > 0.6, np.array([np.nan])).mean_confidence == 0.0


def test_the_slice_that_loses_is_named_and_proven() -> None:
    rng = np.random.default_rng(4)
    x, site = rng.normal(size=2000), rng.choice(["a", "b", "c"], 2000)
    wrong = rng.random(2000) < np.where(site == "c", 0.3, 0.05)
    first = worst_slices({"x": x, "tag site": site.tolist()}, wrong)[0]
    assert (first.label, first.is_proven) == ("tag site = c", True)
    x[:100] = np.nan
    wrong = np.isnan(x)
    assert worst_slices({"x": x}, wrong)[0].label == "x is missing or not finite"
    assert not any(s.is_proven for s in worst_slices({"x": rng.normal(size=400)}, rng.random(400) < 0.1))


def test_confusion_calibration_and_disagreements() -> None:
    predicted, labels = ["a", "b", "b", "a"], ["a", "a", "a", "b"]
    assert confusion(predicted, labels)[0] == {"label": "a", "predicted": "b", "rows": 2, "share": 0.66667}
    curve = calibration(np.array([0.9, 0.9, 1.0, 0.1]), np.array([True, False, True, False]))
    assert curve["curve"][-1] == {"confidence": 0.93333, "accuracy": 0.66667, "rows": 3}
    assert [d["row"] for d in newest_disagreements(predicted, labels, np.ones(4))] == [3, 2, 1]

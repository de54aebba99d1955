"""What labels and inputs together say of a model that is right less often; and what can be said without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.monitoring.concept import describe_labelled
from runtime.monitoring.decision import DriftTest
from runtime.monitoring.estimate import LEAST_ROWS, sample_accuracy
from runtime.monitoring.layout import Feature, Kind, Role, columns, features_of
from runtime.monitoring.performance import Labelled, LabelledPerformance
from runtime.monitoring.reference import make_baseline
from runtime.monitoring.summary import Summary
from runtime.monitoring.verdict import Verdict, explain
from runtime.tensors import TensorSpec

TEMPERATURE = Feature("temperature", "t", Role.INPUT, Kind.NUMBER, "column:0")
WEIGHT = Feature("weight", "t", Role.INPUT, Kind.NUMBER, "column:1")


def performance(right: float, labels: int = 400) -> LabelledPerformance:
    test, rng = LabelledPerformance(475, 500), np.random.default_rng(1)
    for at in range(labels):
        is_right = bool(rng.random() < right)
        test.add(Labelled(str(at), "7", "7" if is_right else "1", is_right, 1e9 + at))
    return test


def verdicts_on(change: Any) -> list[Verdict]:
    """Of the two features, changed by `change`."""
    rng = np.random.default_rng(2)
    before = {"temperature": rng.normal(20, 5, 2000), "weight": rng.gamma(2, 10, 2000)}
    baseline = make_baseline("m", 1, (TEMPERATURE, WEIGHT), before)
    test, summary = DriftTest(baseline), Summary(baseline)
    summary.update_columns(change({"temperature": rng.normal(20, 5, 1000), "weight": rng.gamma(2, 10, 1000)}))
    by_name = dict(
        zip((TEMPERATURE.name, WEIGHT.name), zip(baseline.features, baseline.references, strict=True), strict=True)
    )
    return [explain(f, *by_name[f.feature], summary.features[f.feature]) for f in test.look(summary, 0.0, 1.0)]


def test_a_model_as_right_as_ever_has_no_verdict() -> None:
    told = describe_labelled(performance(0.95), [])
    assert (told["is_worse"], told["verdict"], told["labels"]) == (False, None, 400)
    assert told["accuracy"] == pytest.approx(0.95, abs=0.03)


def test_with_calm_inputs_what_is_right_has_changed() -> None:
    verdict = describe_labelled(performance(0.7), [])["verdict"]
    assert verdict["suspect"] == "concept shift"
    assert "retrain" in verdict["next"]
    assert verdict["mistakes"][0]["label"] == "1"
    assert verdict["mistakes"][0]["predicted"] == "7"
    assert verdict["since_unix"] >= 1e9


def test_an_input_that_names_a_cause_comes_before_one_that_is_only_elsewhere() -> None:
    inputs = verdicts_on(lambda v: {"temperature": v["temperature"] * 1.8 + 32, "weight": v["weight"] ** 2 + 500})
    assert len(inputs) == 2
    for order in (inputs, inputs[::-1]):
        verdict = describe_labelled(performance(0.7), order)["verdict"]
        assert verdict["suspect"] == "upstream unit change"
        assert "temperature drifts too" in verdict["detail"]


def test_labels_that_contradict_each_other_are_suspected_themselves() -> None:
    test = performance(0.7)
    for at in range(60):
        for label in ("7", "1"):
            test.add(Labelled(f"twice {at}", "7", label, label == "7", 2e9))
    told = describe_labelled(test, [])
    assert told["contradictions"] == 60
    assert told["verdict"]["suspect"] == "labels that contradict each other"


def test_without_labels_answers_that_are_less_sure_are_expected_to_be_wrong_more_often() -> None:
    rng = np.random.default_rng(3)

    def answers(rows: int, low: float) -> tuple[Any, Any]:
        sure = rng.uniform(low, 1.0, rows)
        truth = np.where(rng.random(rows) < sure, 0, 1)
        return np.stack([sure, 1 - sure], axis=1), truth

    features = features_of([], [TensorSpec("p", "FP32", (-1, 2))], is_classifier=True, ranges={})
    scores, truth = answers(4000, 0.5)
    values = columns(features, {}, {"p": scores})
    baseline = make_baseline("m", 1, features, values)
    samples = sample_accuracy(baseline, values, truth)
    assert samples is not None
    calm, unsure = Summary(baseline), Summary(baseline)
    calm.update({}, {"p": answers(2000, 0.5)[0]})
    rows, _ = answers(2000, 0.5)
    unsure.update({}, {"p": rows[rows[:, 0] < 0.7]})
    told, less = samples.estimate(calm), samples.estimate(unsure)
    assert told is not None
    assert less is not None
    assert told["accuracy"] == pytest.approx(0.75, abs=0.02)
    assert less["accuracy"] == pytest.approx(0.6, abs=0.03)
    few = Summary(baseline)
    few.update({}, {"p": rows[: LEAST_ROWS - 1]})
    assert samples.estimate(few) is None
    assert sample_accuracy(baseline, values, truth.astype(float)) is None, "labels of a regression"

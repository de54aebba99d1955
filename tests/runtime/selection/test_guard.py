"""Right or wrong answers, from arrays alone."""

import numpy as np
import pytest

from runtime.bundle.manifest import Task
from runtime.selection.guard import GuardResult, check_answers, class_of, rows_agreeing
from runtime.tensors import Array

SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)


def test_accuracy_counts_labels_and_agreement_the_reference() -> None:
    flipped = SCORES.copy()
    flipped[0] = flipped[0, ::-1]
    result = check_answers(Task.CLASSIFICATION, ["y"], {"y": flipped}, {"y": SCORES}, np.array([1, 1, 0, 0]))
    assert (result.rows, result.accuracy, result.agreement, result.problem) == (4, 0.75, 0.75, None)


def test_what_is_not_known_is_none() -> None:
    result = check_answers(Task.CLASSIFICATION, ["y"], {"y": SCORES}, {}, None)
    assert (result.accuracy, result.agreement) == (None, None)
    result = check_answers(Task.REGRESSION, ["y"], {"y": SCORES}, {}, np.zeros(4))
    assert (result.accuracy, result.agreement) == (None, None)


def test_scaled_scores_are_the_same_answer_for_a_classifier_only() -> None:
    assert check_answers(Task.CLASSIFICATION, ["y"], {"y": 1.2 * SCORES}, {"y": SCORES}, None).agreement == 1.0
    assert check_answers(Task.GENERIC, ["y"], {"y": 1.2 * SCORES}, {"y": SCORES}, None).agreement == 0.0


def test_the_first_output_is_not_all_of_a_classifier() -> None:
    """A second output that is garbage, and confidences flattened to a coin's, have the right arg max in every row."""
    features = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    want = {"y": SCORES, "z": features}
    rounded = features + np.random.default_rng(1).normal(scale=0.05, size=features.shape).astype(np.float32)
    labels = SCORES.argmax(axis=1)
    honest = check_answers(Task.CLASSIFICATION, ["y", "z"], {"y": SCORES + 0.01, "z": rounded}, want, labels)
    assert (honest.accuracy, honest.agreement) == (1.0, 1.0)
    assert honest.confidence_error == pytest.approx(0.01)
    for garbage in (features[::-1], np.zeros_like(features), features * 0.5):
        broken = check_answers(Task.CLASSIFICATION, ["y", "z"], {"y": SCORES, "z": garbage}, want, labels)
        assert (broken.accuracy, broken.agreement, broken.confidence_error) == (1.0, 0.0, 0.0)
    flat = np.full((4, 4), 0.249, np.float32)
    sure = np.full((4, 4), 0.01, np.float32)
    flat[range(4), range(4)], sure[range(4), range(4)] = 0.253, 0.97
    flattened = check_answers(Task.CLASSIFICATION, ["y"], {"y": flat}, {"y": sure}, np.arange(4))
    assert (flattened.accuracy, flattened.agreement) == (1.0, 0.0)
    assert flattened.confidence_error == pytest.approx(0.717, abs=1e-3)


def test_confidences_of_logits_are_compared_as_probabilities() -> None:
    logits = np.array([[9.0, -3.0, 0.0], [-4.0, 6.0, -1.0]])
    close = check_answers(Task.CLASSIFICATION, ["y"], {"y": logits * 0.8 + 1}, {"y": logits}, None)
    assert close.agreement == 1.0
    assert close.confidence_error is not None
    assert close.confidence_error < 0.01
    flat = check_answers(Task.CLASSIFICATION, ["y"], {"y": logits / 100}, {"y": logits}, None)
    assert flat.agreement == 0.0
    with np.errstate(all="raise"):  # nor does infinity trouble it
        endless = np.where(logits < 0, -np.inf, logits)
        assert check_answers(Task.CLASSIFICATION, ["y"], {"y": endless}, {"y": endless}, None).agreement == 1.0


def test_few_rows_are_given_the_benefit_of_the_doubt_and_no_more() -> None:
    few = GuardResult(8, 0.5, 0.4, is_partial=True).at_best()
    assert few.accuracy == 1.0
    assert few.agreement == pytest.approx(0.936, abs=1e-3)
    many = GuardResult(200, 0.5, 0.4, is_partial=True).at_best()
    assert many.accuracy == pytest.approx(0.607, abs=1e-3)
    assert GuardResult(8, 0.5, 0.4).at_best() == GuardResult(8, 0.5, 0.4)


def test_a_row_of_zeros_has_the_scale_of_the_others() -> None:
    want = {"y": SCORES, "z": np.array([[0.0, 0.0], [5.0, 1.0], [2.0, 2.0], [1.0, 4.0]])}
    tiny = want["z"] + 0.005
    assert check_answers(Task.CLASSIFICATION, ["y", "z"], {"y": SCORES, "z": tiny}, want, None).agreement == 1.0


def test_a_single_score_is_the_probability_of_class_one() -> None:
    assert class_of(np.array([[0.2], [0.7]])).tolist() == [0, 1]
    assert class_of(np.array([0.2, 0.7])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("got", "agrees"),
    [
        ([1.0, 100.0], True),
        ([1.0, 102.0], True),  # 1 % of the value and 1 % of the largest
        ([1.0, 102.1], False),
        ([2.0, 100.0], True),  # 1 % of the largest
        ([2.02, 100.0], False),
        ([np.nan, 100.0], False),
    ],
)
def test_the_stated_tolerances(got: list[float], agrees: bool) -> None:
    want = np.array([[1.0, 100.0]])
    assert rows_agreeing(np.array([got]), want).tolist() == [agrees]


def test_nan_agrees_with_nan_and_integers_must_be_the_same() -> None:
    assert rows_agreeing(np.array([[np.nan]]), np.array([[np.nan]])).tolist() == [True]
    assert rows_agreeing(np.array([[1000, 2]]), np.array([[1001, 2]])).tolist() == [False]
    words = np.array([[b"a"], [b"b"]], dtype=object)
    assert rows_agreeing(words, np.array([[b"a"], [b"c"]], dtype=object)).tolist() == [True, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", list(Task))
def test_nan_or_infinity_where_the_reference_is_finite_is_unfit(task: Task, bad: float) -> None:
    broken = SCORES.copy()
    broken[2, 1] = bad
    result = check_answers(task, ["y"], {"y": broken}, {"y": SCORES}, None)
    assert result.problem == "output 'y' is NaN or infinite in 1 of 4 rows where the reference is finite"
    assert check_answers(task, ["y"], {"y": broken}, {"y": broken}, None).problem is None


def test_all_outputs_count_for_a_generic_model() -> None:
    second = np.zeros((4, 3))
    wrong = second.copy()
    wrong[3, 0] = 1.0
    want = {"y": SCORES, "z": second}
    assert check_answers(Task.GENERIC, ["y", "z"], {"y": SCORES, "z": wrong}, want, None).agreement == 0.75


def test_another_shape_is_unfit() -> None:
    result = check_answers(Task.GENERIC, ["y"], {"y": SCORES[:, :1]}, {"y": SCORES}, None)
    assert result.problem == "output 'y' has shape [4, 1], the reference's has [4, 2]"


@pytest.mark.parametrize("value", [np.float32(1.0), np.zeros((0, 3), np.float32)])
def test_scalars_and_zero_rows_are_no_crash(value: Array) -> None:
    value = np.asarray(value)
    result = check_answers(Task.GENERIC, ["y"], {"y": value}, {"y": value}, None)
    assert result.problem is None


def test_an_output_with_rows_of_its_own_counts_by_itself() -> None:
    want = {"y": SCORES, "k": np.array([1.0, 2.0])}
    got = {"y": SCORES, "k": np.array([1.0, 3.0])}
    assert check_answers(Task.GENERIC, ["y", "k"], got, want, None).agreement == 0.5

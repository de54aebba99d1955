"""Answers of models and people: what is read from outputs, what is an answer, and how far one is from another."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_gateway.automation.answers import check_answer, completed, loss, suggestion_of, summarize
from runtime.errors import InvalidInputError


def test_scores_are_a_class_and_probabilities_a_confidence() -> None:
    one = suggestion_of({"p": np.array([[0.1, 0.7, 0.2]], np.float32)})
    assert one.answer == 1
    assert one.confidence == pytest.approx(0.7)
    assert suggestion_of({"logits": np.array([[3.0, -1.0]])}).confidence is None
    two = suggestion_of({"x": np.zeros(1), "p": np.array([[0.9, 0.1], [0.4, 0.6]])}, "p")
    assert two.answer == [0, 1]
    assert two.confidence == pytest.approx(0.6)


def test_one_value_a_row_is_the_answer_itself() -> None:
    assert suggestion_of({"y": np.array([[1.5]])}).answer == 1.5
    assert suggestion_of({"y": np.array([b"cat", b"dog"], object)}).answer == ["cat", "dog"]


def test_what_json_and_databases_do_not_have_is_said_as_a_text_that_no_label_is() -> None:
    assert suggestion_of({"y": np.array([[np.nan], [np.inf], [2.0]])}).answer == ["nan", "inf", 2.0]
    assert suggestion_of({"y": np.array([b"a\0\xff"], object)}).answer == "a\ufffd\ufffd"
    assert loss("nan", 2.0) == 1.0


def test_what_no_person_could_answer_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no output 'q'; it has p"):
        suggestion_of({"p": np.zeros((1, 2))}, "q")
    with pytest.raises(InvalidInputError, match="2000 rows"):
        suggestion_of({"p": np.zeros((2000, 2))})


@pytest.mark.parametrize("shape", [(0,), (0, 10), (3, 0)])
def test_an_empty_output_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="output 'p' is empty"):
        suggestion_of({"p": np.zeros(shape)})


@pytest.mark.parametrize("answer", [None, {"a": 1}, [[1]], float("nan"), "x" * 20_000, "a\0", ["\ud800"]])
def test_what_is_no_answer_is_refused(answer: object) -> None:
    with pytest.raises(InvalidInputError):
        check_answer(answer)


def test_rows_are_counted() -> None:
    assert check_answer([1, None], 2) == [1, None]
    with pytest.raises(InvalidInputError, match="has 2 rows, the answer 1"):
        check_answer(3, 2)


@pytest.mark.parametrize(
    ("said", "truth", "tolerance", "expected"),
    [
        (3, 3, 0.0, 0.0),
        (3, "3", 0.0, 0.0),
        (3, 4, 0.0, 1.0),
        (1.0, 1.2, 0.25, 0.0),
        ([1, 2], [1, 3], 0.0, 0.5),
        ([1, 2], [1, None], 0.0, 0.0),
        ([1, 2], [None, None], 0.0, None),
        ([1, 2], 1, 0.0, 1.0),
    ],
)
def test_loss_is_the_share_of_rows_with_another_answer(
    said: object, truth: object, tolerance: float, expected: float | None
) -> None:
    assert loss(said, truth, tolerance) == expected  # type: ignore[arg-type]


def test_labels_in_parts_complete_each_other_and_do_not_contradict() -> None:
    assert completed([1, None], [None, 2]) == [1, 2]
    assert completed([1, None], [3, 2]) is None
    assert completed(1, 2) is None
    assert completed(1, 1) == 1


def test_a_summary_is_small() -> None:
    text = summarize({"image": np.zeros((1, 64, 64), np.float32), "name": np.array([b"a" * 5000], object)})
    assert text.startswith("image float32 [1, 64, 64]: 0, 0")
    assert len(text) < 500

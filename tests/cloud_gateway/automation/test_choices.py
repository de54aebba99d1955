"""Which classes a person chooses from, and answers by their names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cloud_gateway.automation.choices import choices_in, classes, numbered
from runtime.bundle.manifest import Task
from runtime.errors import InvalidInputError, ModelNotFoundError

ANIMALS = ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("names", "shape", "is_classifier", "expected"),
    [
        (ANIMALS, (-1, 3), True, ANIMALS),
        (ANIMALS, (-1, -1), True, ANIMALS),
        (ANIMALS, (-1, 4), True, ()),
        (ANIMALS, (-1,), True, ()),
        (None, (-1, 3), True, ("0", "1", "2")),
        (None, (-1, 3), False, ()),
        (None, (-1, 1), True, ()),
        (None, (-1, 5000), True, ()),
    ],
)
def test_classes(names: Any, shape: Any, is_classifier: bool, expected: Any) -> None:
    assert tuple(classes(names, shape, is_classifier=is_classifier)) == expected


@pytest.mark.parametrize(("answer", "expected"), [("dog", 1), (2, 2), (["owl", 0, None], [2, 0, None]), (["cat"], [0])])
def test_a_name_becomes_the_number_that_models_say(answer: Any, expected: Any) -> None:
    assert numbered(answer, ANIMALS) == expected


@pytest.mark.parametrize("answer", ["cow", 3, -1, True, 1.0, ["cat", "cow"]])
def test_what_is_no_class_is_refused_with_what_there_is(answer: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected one of cat, dog, owl, or its number from 0 to 2"):
        numbered(answer, ANIMALS)


def test_a_name_that_looks_like_a_number_is_a_name_first() -> None:
    assert numbered("1", ("1", "2", "3")) == 0
    assert numbered(["3", "0"], ("1", "2", "3")) == [2, 0]
    assert numbered(1, ("1", "2", "3")) == 1, "a number is a class's"
    assert numbered("1", ANIMALS) == 1


@pytest.mark.parametrize(
    ("said", "answer"),
    [("7", 7), ("-3", -3), ("007", "007"), ("-0", "-0"), ("1.0", "1.0"), ("cat", "cat"), ("--1", "--1"), ("٣", "٣")],
)
def test_a_text_is_a_number_only_where_the_number_is_written_that_way(said: str, answer: int | str) -> None:
    found = numbered(said, ())
    assert (found, type(found)) == (answer, type(answer))


def test_without_choices_an_answer_stays_as_it_is() -> None:
    assert numbered("anything", ()) == "anything"
    assert numbered(1.5, ()) == 1.5


def test_of_a_version_that_is_gone_the_one_that_serves_tells_and_an_unknown_model_has_none() -> None:
    def model(name: str, version: str) -> Any:
        if name != "m" or version not in ("", "2"):
            raise ModelNotFoundError(name)
        manifest = SimpleNamespace(task=Task.CLASSIFICATION)
        outputs = (SimpleNamespace(name="scores", shape=(-1, 3)), SimpleNamespace(name="size", shape=(-1,)))
        return SimpleNamespace(outputs=outputs, bundle=SimpleNamespace(manifest=manifest))

    engine: Any = SimpleNamespace(model=model)
    choices = choices_in(engine, lambda _name, _version: ANIMALS)
    assert choices("m", "1", "") == choices("m", "2", "scores") == ANIMALS
    assert choices("m", "2", "size") == ()
    assert choices("n", "1", "") == ()

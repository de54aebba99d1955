"""Answers side by side, and signatures."""

import numpy as np
import pytest
from scipy.spatial.distance import braycurtis

from cloud_gateway.release.comparison import compare, compare_all
from cloud_gateway.release.signature import differences
from runtime.bundle.manifest import Task
from runtime.tensors import TensorSpec


def scores(*rows: list[float]) -> dict[str, np.ndarray]:
    return {"scores": np.array(rows, np.float32)}


def test_a_classifier_agrees_when_its_classes_are_the_same() -> None:
    stable = scores([0.9, 0.1], [0.2, 0.8])
    close = compare(Task.CLASSIFICATION, ["scores"], stable, scores([0.6, 0.4], [0.1, 0.9]))
    assert close is not None
    assert close.agrees
    assert close.classes == ()
    far = compare(Task.CLASSIFICATION, ["scores"], stable, scores([0.9, 0.1], [0.7, 0.3]))
    assert far is not None
    assert not far.agrees
    assert far.classes == ((1, 0),)


def test_the_distance_is_bray_and_curtis() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        a, b = generator.normal(size=(2, 5, 7))
        found = compare(Task.REGRESSION, ["y"], {"y": a}, {"y": b})
        assert found is not None
        # The oracle divides by |a + b|; of magnitudes it is the same thing.
        expected = np.abs(a - b).sum() / (np.abs(a) + np.abs(b)).sum()
        assert found.distance == pytest.approx(expected, abs=1e-12)
        positive = compare(Task.REGRESSION, ["y"], {"y": np.abs(a)}, {"y": np.abs(b)})
        assert positive is not None
        assert positive.distance == pytest.approx(braycurtis(np.abs(a).ravel(), np.abs(b).ravel()), abs=1e-12)
    p, q = np.array([[0.7, 0.3]]), np.array([[0.4, 0.6]])
    found = compare(Task.REGRESSION, ["y"], {"y": p}, {"y": q})
    assert found is not None
    assert found.distance == pytest.approx(0.3)


def test_tasks_without_classes_agree_within_tolerances() -> None:
    y = np.array([[100.0], [200.0]])
    for task in (Task.REGRESSION, Task.GENERIC):
        near, off = (compare(task, ["y"], {"y": y}, {"y": y * factor}) for factor in (1.005, 1.2))
        assert near is not None
        assert near.agrees
        assert off is not None
        assert not off.agrees
        assert 0 < off.distance < 1


def test_other_shapes_and_new_nans_are_as_far_as_can_be() -> None:
    y = np.ones((2, 2))
    nan = np.array([[1.0, np.nan], [1.0, 1.0]])
    for other in (np.ones((2, 3)), nan):
        found = compare(Task.GENERIC, ["y"], {"y": y}, {"y": other})
        assert found is not None
        assert (found.agrees, found.distance) == (False, 1.0)
    same = compare(Task.GENERIC, ["y"], {"y": nan}, {"y": nan})
    assert same is not None
    assert same.agrees
    assert same.distance == 0.0
    assert compare(Task.GENERIC, ["y"], {"x": y}, {"y": y}) is None


def test_words_and_numbers_differ_by_share() -> None:
    a = np.array([b"x", b"y", b"z", b"z"], np.object_)
    b = np.array([b"x", b"y", b"z", b"w"], np.object_)
    found = compare(Task.GENERIC, ["y"], {"y": a}, {"y": b})
    assert found is not None
    assert found.distance == 0.25


def drawn(generator: np.random.Generator, rows: int, classes: int = 3) -> dict[str, np.ndarray]:
    """Outputs of a classifier with one more tensor; a tenth of the values are no numbers."""
    made = {"scores": generator.random((rows, classes)).round(1), "embedding": generator.normal(size=(rows, 2, 2))}
    for value in made.values():
        value[generator.random(value.shape) < 0.1] = np.nan
    return {name: value.astype(np.float32) for name, value in made.items()}


def test_many_at_once_are_compared_as_each_is_alone() -> None:
    generator = np.random.default_rng(11)
    names = ["scores", "embedding"]
    broken = 0
    for _ in range(50):
        counts = generator.integers(1, 4, generator.integers(2, 9))
        pairs = [(drawn(generator, count), drawn(generator, count)) for count in counts]
        pairs = [(one, one if generator.random() < 0.4 else other) for one, other in pairs]
        for found, (stable, candidate) in zip(compare_all(Task.CLASSIFICATION, names, pairs), pairs, strict=True):
            alone = compare(Task.CLASSIFICATION, names, stable, candidate)
            assert found is not None
            assert alone is not None
            assert (found.agrees, found.classes) == (alone.agrees, alone.classes)
            assert found.distance == pytest.approx(alone.distance, abs=1e-12)
            broken += alone.distance == 1.0
    assert 0 < broken < 200, "some are as far off as can be, and not all"


def test_what_is_not_alike_is_compared_one_by_one() -> None:
    names = ["scores"]
    same, wider = scores([0.9, 0.1]), scores([0.9, 0.1, 0.0])
    whole = {"scores": np.array([[1, 0]])}
    pairs = [(same, same), (same, wider), (whole, whole), (same, {}), (wider, wider)]
    found = compare_all(Task.CLASSIFICATION, names, pairs)
    assert found == [compare(Task.CLASSIFICATION, names, *pair) for pair in pairs]
    assert [one is not None and one.agrees for one in found] == [True, False, True, False, True]
    assert compare_all(Task.CLASSIFICATION, names, []) == []


X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "FP32", (-1, 3))
Z = TensorSpec("z", "INT64", (-1,))


def test_the_same_signature_has_no_differences() -> None:
    assert differences(([X, Z], [Y]), ([X, Z], [Y])) == []


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (([X], [Y]), "input 'z' (INT64 [-1]) is missing"),
        (([X, Z], [Y, Z]), "output 'z' (INT64 [-1]) is new"),
        (([TensorSpec("x", "FP64", (-1, 4)), Z], [Y]), "input 'x' is FP64 [-1, 4], stable's is FP32 [-1, 4]"),
        (([X, Z], [TensorSpec("y", "FP32", (-1, 5))]), "output 'y' is FP32 [-1, 5], stable's is FP32 [-1, 3]"),
        (([Z, X], [Y]), "inputs stand in another order: ['z', 'x'], stable's: ['x', 'z']"),
    ],
)
def test_differences_in_words(candidate: tuple[list[TensorSpec], list[TensorSpec]], expected: str) -> None:
    assert differences(([X, Z], [Y]), candidate) == [expected]

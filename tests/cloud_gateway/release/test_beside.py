"""The other version, asked beside: which of two goes first is nobody's to foresee, and nothing is run ahead."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cloud_gateway.guards import Arm
from cloud_gateway.release.beside import Beside
from cloud_gateway.release.comparison import Comparison, compare
from cloud_gateway.release.mirrored import Offered
from runtime.bundle.manifest import Task
from runtime.errors import ExecutionError
from tests.cloud_gateway.release.fakes import FakeVersion

WAKES = 200


def offered(number: int, answered: Arm = Arm.STABLE) -> Offered:
    x = np.ones((1, 2), np.float32)
    return Offered({"x": x}, {"y": x}, answered, "", number, 16, "", str(number), None)


def ran_by_wake(a_wake: int, answered: Arm) -> Iterator[list[str]]:
    """Who ran, in each of `WAKES` wakes with so many requests."""
    ran: list[str] = []
    stable: Any = FakeVersion("stable", lambda name, _: ran.append(name))
    candidate: Any = FakeVersion("candidate", lambda name, _: ran.append(name))
    beside = Beside(stable, candidate, 1, times_candidate=True, has_copy=False)
    for wake in range(WAKES):
        ran.clear()
        found = list(beside.results([offered(wake * a_wake + one, answered) for one in range(a_wake)]))
        assert all(one.timed is not None for one in found)
        yield list(ran)


def test_no_rhythm_of_wakes_gives_the_first_run_to_one_version() -> None:
    """The first run of a wake is the slow one; with one, two or three requests a wake a fixed turn would be one version's."""
    for answered in Arm:
        for a_wake in (1, 2, 3):
            firsts = [ran[0] for ran in ran_by_wake(a_wake, answered)]
            # A coin is outside of these once in 10^12 times at most (200 and 199 throws).
            assert 50 < firsts.count("stable") < 150
            assert 50 < sum(one != other for one, other in pairwise(firsts)) < 150


@pytest.mark.parametrize(
    ("again", "is_noise"),
    [([0.25, np.nan], False), ([0.25, 0.5], True), ([np.nextafter(np.float32(0.25), 1), np.nan], True)],
    ids=["the same to the bit", "another number", "one bit off"],
)
def test_the_noise_of_stable_is_none_where_it_repeats_itself_and_else_what_is_compared(
    again: list[float], is_noise: bool
) -> None:
    first = {"y": np.array([[0.25, np.nan]], np.float32)}
    second = {"y": np.array([again], np.float32)}
    stable: Any = FakeVersion("stable", lambda *_: None)
    beside = Beside(stable, stable, 1, times_candidate=False, has_copy=False)
    expected = compare(Task.GENERIC, ["y"], first, second)
    assert beside._noise(first, second) == expected
    assert expected is not None
    assert (expected != Comparison(agrees=True, distance=0.0)) == is_noise
    assert beside._noise(first, {}) is None


def test_nothing_is_run_before_it_is_asked_for() -> None:
    ran: list[tuple[str, int]] = []

    def run(name: str, rows: int) -> None:
        ran.append((name, rows))
        if rows > 1:
            raise ExecutionError("too many")

    stable: Any = FakeVersion("stable", run)
    candidate: Any = FakeVersion("candidate", run)
    results = Beside(stable, candidate, 4, times_candidate=False, has_copy=False).results(
        [offered(number) for number in range(1, 9)]
    )
    assert [next(results).request_id for _ in range(2)] == ["4", "8"]
    assert sorted(ran) == [("candidate", 1)] * 2 + [("stable", 1)] * 2, "before a batch that would warm the candidate"
    ran.clear()
    assert [next(results).request_id for _ in range(2)] == ["1", "2"]
    assert ran == [("candidate", 6), ("candidate", 1), ("candidate", 1)], "a batch that failed, and each by itself"
    assert [one.request_id for one in results] == ["3", "5", "6", "7"]
    assert len(ran) == 1 + 6

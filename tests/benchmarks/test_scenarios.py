"""A scenario is its record: what `plan` makes of it, and what a person may say of it."""

from __future__ import annotations

import pytest

from benchmarks.arrivals import Arrivals
from benchmarks.scenarios import SHAPES, Kind, Wishes, check_used, plan
from runtime.errors import WrongUseError

ALL = Wishes(rows=3, in_flight=5, arrivals=Arrivals.parse("constant:7"))


def test_there_is_a_record_for_every_scenario() -> None:
    assert list(SHAPES) == list(Kind)
    assert len({shape.loadgen_name for shape in SHAPES.values()}) == len(Kind)


@pytest.mark.parametrize("kind", Kind)
def test_a_scenario_is_planned_as_its_record_says_and_takes_the_wishes_that_it_knows(kind: Kind) -> None:
    plain, wished = plan(kind.value), plan(kind.value, ALL)
    assert plain.is_open_loop is kind.shape.is_open_loop
    assert (plain.rows, wished.rows) == ((1, 1) if kind.shape.rows is None else (kind.shape.rows, 3))
    assert (plain.in_flight, wished.in_flight) == (
        (1, 1) if kind.shape.in_flight is None else (kind.shape.in_flight, 5)
    )
    assert wished.arrivals == (ALL.arrivals if kind.shape.is_open_loop else None)


@pytest.mark.parametrize("kind", Kind)
def test_a_wish_that_a_scenario_does_not_know_is_refused(kind: Kind) -> None:
    for wish, own in (
        (Wishes(rows=3), kind.shape.rows),
        (Wishes(in_flight=5), kind.shape.in_flight),
        (Wishes(arrivals=ALL.arrivals), kind.shape.arrivals),
    ):
        if own is not None:
            check_used([kind.value], wish)
            continue
        with pytest.raises(WrongUseError, match=f"what is measured is {kind}"):
            check_used([kind.value], wish)

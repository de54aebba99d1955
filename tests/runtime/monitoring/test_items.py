"""Frequent values, from datasketches and from the table, through one contract."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from runtime.monitoring.items import MAX_NAME, Item, make_items, name_of, names_of, told_items

KINDS = [
    pytest.param(
        True, id="datasketches", marks=pytest.mark.skipif("not __import__('importlib').util.find_spec('datasketches')")
    ),
    pytest.param(False, id="table"),
]


@pytest.mark.parametrize("use_sketches", KINDS)
def test_bounds_hold_for_what_is_frequent(use_sketches: bool) -> None:
    rng = np.random.default_rng(1)
    made = make_items(use_sketches=use_sketches)
    seen: Counter[str] = Counter()
    for _ in range(50):
        part = Counter(f"v{value}" for value in rng.zipf(1.6, 400))
        seen.update(part)
        made.update(part)
    top = made.top(5)
    assert [item.name for item in top][:2] == [name for name, _ in seen.most_common(2)]
    assert all(item.low <= seen[item.name] <= item.high for item in top)


@pytest.mark.slow
@pytest.mark.parametrize("use_sketches", KINDS)
def test_new_values_in_the_millions_stay_small_and_hide_nobody(use_sketches: bool) -> None:
    made = make_items(use_sketches=use_sketches)
    for block in range(20):
        made.update({"often": 20_000} | {f"once {block} {at}": 1 for at in range(100_000)})
    first = made.top(1)[0]
    assert first.name == "often"
    assert first.low <= 400_000 <= first.high
    assert len(made.top(10_000)) <= 200
    assert made.blind > 0


@pytest.mark.parametrize("use_sketches", KINDS)
def test_devices_merge_and_travel(use_sketches: bool) -> None:
    whole = make_items(use_sketches=use_sketches)
    for device in range(100):
        one = make_items(use_sketches=use_sketches)
        one.update({"a": 3, "b": 2, f"own {device % 7}": 1})
        whole.merge(told_items(one.top(64), one.blind, use_sketches=use_sketches))
    assert whole.top(2) == [Item("a", 300, 300), Item("b", 200, 200)]


def test_names_are_text_that_travels() -> None:
    assert name_of(b"\xff\x00ok") == "\\xff\x00ok"
    assert name_of("\ud800").encode()
    long_a, long_b = name_of("a" * 500 + "1"), name_of("a" * 500 + "2")
    assert len(long_a) == MAX_NAME
    assert long_a != long_b
    assert names_of([True, True, b"x"]) == {"True": 2, "x": 1}

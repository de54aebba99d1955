"""Both kinds of quantiles through one contract; bytes from outside are refused before a library reads them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.monitoring.quantiles import (
    FixedQuantiles,
    KllQuantiles,
    Quantiles,
    kll_problem,
    make_quantiles,
    quantiles_from_bytes,
)

KINDS = [
    pytest.param(
        True, id="datasketches", marks=pytest.mark.skipif("not __import__('importlib').util.find_spec('datasketches')")
    ),
    pytest.param(False, id="fixed"),
]
RANKS = np.linspace(0.05, 0.95, 19)


def error_of(made: Quantiles, values: np.ndarray) -> float:
    """The largest distance in ranks."""
    found = np.searchsorted(np.sort(values), made.at(RANKS)) / len(values)
    return float(np.abs(found - RANKS).max())


@pytest.mark.parametrize("use_sketches", KINDS)
def test_a_hundred_parts_merged_say_what_one_stream_says(use_sketches: bool) -> None:
    values = np.random.default_rng(1).normal(size=50_000)
    whole, merged = (make_quantiles(-6, 6, use_sketches=use_sketches) for _ in range(2))
    whole.update(values)
    for part in np.split(values, 100):
        one = make_quantiles(-6, 6, use_sketches=use_sketches)
        one.update(part)
        merged.merge(one)
    assert merged.count == whole.count == len(values)
    for made in (whole, merged):
        assert error_of(made, values) < 0.03, "KLL promises 1.65 % of ranks; a bin here is 2 % at most"
    if not use_sketches:
        np.testing.assert_array_equal(merged.at(RANKS), whole.at(RANKS))


@pytest.mark.parametrize("use_sketches", KINDS)
@pytest.mark.parametrize("values", [[], [3.0], [3.0, 3.0], [-1e300, 1e300], list(range(1000))])
def test_bytes_and_back(use_sketches: bool, values: list[float]) -> None:
    made = make_quantiles(0, 10, use_sketches=use_sketches)
    made.update(np.array(values, np.float64))
    read = quantiles_from_bytes(made.kind, made.to_bytes())
    assert read.count == len(values)
    if values:
        np.testing.assert_array_equal(read.at(RANKS), made.at(RANKS))
        assert np.isfinite(read.at(RANKS)).all()


@pytest.mark.parametrize("use_sketches", KINDS)
def test_a_constant_is_its_own_quantiles(use_sketches: bool) -> None:
    made = make_quantiles(-1, 1, use_sketches=use_sketches)
    made.update(np.full(500, 0.25))
    np.testing.assert_array_equal(made.at(RANKS), 0.25)


def test_kinds_and_bins_do_not_mix() -> None:
    with pytest.raises(ValueError, match="other bins"):
        FixedQuantiles(0, 1).merge(FixedQuantiles(0, 2))
    with pytest.raises(ValueError, match="unknown kind"):
        quantiles_from_bytes("pickle", b"")
    pytest.importorskip("datasketches")
    with pytest.raises(ValueError, match="does not merge"):
        KllQuantiles().merge(FixedQuantiles(0, 1))


def test_what_datasketches_writes_is_taken() -> None:
    pytest.importorskip("datasketches")
    rng = np.random.default_rng(2)
    for count in (0, 1, 2, 199, 201, 5_000, 300_000):
        made = KllQuantiles()
        made.update(rng.normal(size=count))
        assert kll_problem(made.to_bytes()) is None, count


MUTATE = """
import random, numpy as np
from runtime.monitoring.quantiles import KllQuantiles
random.seed(5); rng = np.random.default_rng(5); taken = refused = 0
for turn in range(6000):
    if turn % 500 == 0:
        made = KllQuantiles(); made.update(rng.normal(size=10 ** random.randint(0, 5))); raw = made.to_bytes()
    changed = bytearray(raw)
    for _ in range(random.randint(1, 3)):
        changed[random.randrange(min(len(changed), 90))] = random.choice([0, 1, 2, 8, 200, 255, random.randrange(256)])
    if random.random() < 0.2:
        changed = changed[: random.randrange(len(changed))]
    try:
        read = KllQuantiles.from_bytes(bytes(changed))
        other = KllQuantiles(); other.update(np.ones(500)); other.merge(read); other.at(np.array([0.1, 0.9])); taken += 1
    except ValueError:
        refused += 1
print(taken, refused)
"""


@pytest.mark.slow
def test_no_changed_bytes_end_the_process() -> None:
    """In a process of its own: without `kll_problem` this ends with SIGSEGV."""
    pytest.importorskip("datasketches")
    done = subprocess.run([sys.executable, "-c", MUTATE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 1000


@given(st.binary(max_size=200))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_bytes_are_a_sketch_or_a_value_error(raw: bytes) -> None:
    for kind in ("kll", "fixed"):
        try:
            quantiles_from_bytes(kind, raw)
        except ValueError:
            continue
        except ImportError:
            continue

from pathlib import Path

import numpy as np
import pytest

from benchmarks.arrivals import Arrivals
from runtime.errors import WrongUseError

MS = 1_000_000


def test_constant_is_even_and_exact() -> None:
    times = Arrivals.parse("constant:100").times(1.0, seed=1)
    assert times.tolist() == [i * 10 * MS for i in range(100)]


def test_ramp_reaches_its_integral() -> None:
    # From 0 to 100 a second in 2 s: 25·t² requests until t, so request n is due at sqrt(n / 25).
    times = Arrivals.parse("ramp:0-100").times(2.0, seed=1)
    assert len(times) == 100
    np.testing.assert_allclose(times / 1e9, np.sqrt(np.arange(100) / 25), atol=1e-8)


def test_ramp_down_ends_slow() -> None:
    times = Arrivals.parse("ramp:100-0").times(2.0, seed=1)
    # 100·t - 25·t² requests until t.
    np.testing.assert_allclose(times / 1e9, 2 * (1 - np.sqrt(1 - np.arange(100) / 100)), atol=1e-8)


def test_steps_are_equal_stretches() -> None:
    times = Arrivals.parse("step:10,40,20").times(3.0, seed=1)
    assert [int(((times >= s * 1e9) & (times < (s + 1) * 1e9)).sum()) for s in range(3)] == [10, 40, 20]


def test_a_step_of_zero_is_a_pause() -> None:
    times = Arrivals.parse("step:10,0,10").times(3.0, seed=1)
    assert not ((times >= 1e9) & (times < 2e9)).any()
    assert len(times) == 20


def test_poisson_is_the_seeds_and_has_exponential_gaps() -> None:
    arrivals = Arrivals.parse("poisson:500")
    times = arrivals.times(40.0, seed=7)
    assert np.array_equal(times, arrivals.times(40.0, seed=7))
    assert not np.array_equal(times[:100], arrivals.times(40.0, seed=8)[:100])
    # 20,000 expected, standard deviation 141; of an exponential distribution mean and deviation are equal.
    assert abs(len(times) - 20_000) < 5 * 141
    gaps_s = np.diff(times) / 1e9
    assert gaps_s.mean() == pytest.approx(1 / 500, rel=0.04)
    assert gaps_s.std() == pytest.approx(1 / 500, rel=0.04)


def test_trace_keeps_its_times_and_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "trace.txt"
    file.write_text("0\n0.5\n0.5\n2.5\n")
    assert Arrivals.parse(f"trace:{file}").times(1.0, seed=1).tolist() == [0, 500 * MS, 500 * MS]


@pytest.mark.parametrize("content", ["0\nx", "1\n0.5", "-1", "nan"])
def test_a_bad_trace_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "trace.txt"
    file.write_text(content)
    with pytest.raises(WrongUseError, match="trace"):
        Arrivals.parse(f"trace:{file}").times(1.0, seed=1)


def test_an_absent_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="cannot be read"):
        Arrivals.parse(f"trace:{tmp_path / 'none'}").times(1.0, seed=1)


@pytest.mark.parametrize("text", ["poisson:200", "constant:0.5", "ramp:50-400", "step:100,200,400", "trace:times.txt"])
def test_text_and_value_go_both_ways(text: str) -> None:
    assert str(Arrivals.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["poisson:1000000.5", "constant:123456.789", "ramp:0.00001-100", "constant:1e-7", "constant:0.1"]
)
def test_the_text_carries_every_digit_to_the_generator(text: str) -> None:
    given = Arrivals.parse(text)
    assert Arrivals.parse(str(given)) == given


@pytest.mark.parametrize(
    "text",
    ["", "poisson", "poisson:", "poisson:x", "poisson:-1", "poisson:0", "poisson:inf", "ramp:1", "burst:3", "trace:"],
)
def test_other_text_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(WrongUseError, match="poisson:RATE"):
        Arrivals.parse(text)


def test_nothing_due_and_far_too_much_are_refused() -> None:
    with pytest.raises(WrongUseError, match="at most"):
        Arrivals.parse("constant:1e9").times(60.0, seed=1)
    with pytest.raises(WrongUseError, match="no request"):
        Arrivals.parse("poisson:0.001").times(0.1, seed=1)

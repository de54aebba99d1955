"""When calls take another time than they were measured to, for long enough to act on it."""

from runtime.engine.drift import LOOKS, MIN_CALLS, SUSTAINED_S, Drift, DriftTest


def cost_ms(rows: int) -> float:
    return 10.0 * rows


def looks(
    test: DriftTest, ms: float, *, rows: int = 1, calls: int = MIN_CALLS, start: float = 0.0
) -> list[Drift | None]:
    """Six looks, five seconds apart."""
    return [test.look([(rows, ms)] * calls, start + 5.0 * at) for at in range(6)]


def test_calls_as_measured_are_no_drift() -> None:
    assert looks(DriftTest(cost_ms), 12.0) == [None] * 6
    assert looks(DriftTest(cost_ms), 8.0) == [None] * 6


def test_drift_is_told_once_it_has_lasted() -> None:
    found = looks(DriftTest(cost_ms), 30.0)
    first = next(at for at, drift in enumerate(found) if drift is not None)
    assert first >= LOOKS - 1
    assert 5.0 * first >= SUSTAINED_S
    assert found[first] == Drift(1, 30.0, 10.0)
    assert str(found[first]) == "a call of 1 row takes 30.0 ms, 3.00 × the 10.0 ms it was measured to take"
    assert all(drift is not None for drift in found[first:]), "until something is done about it"


def test_looks_in_quick_succession_are_not_lasting() -> None:
    test = DriftTest(cost_ms)
    assert [test.look([(1, 30.0)] * MIN_CALLS, at / 10) for at in range(20)] == [None] * 20


def test_a_good_look_between_starts_over() -> None:
    test = DriftTest(cost_ms)
    for at in range(12):
        ms = 10.0 if at % 3 == 2 else 30.0
        assert test.look([(1, ms)] * MIN_CALLS, 6.0 * at) is None


def test_faster_than_measured_is_drift_too() -> None:
    assert looks(DriftTest(cost_ms), 4.0)[-1] == Drift(1, 4.0, 10.0)


def test_small_models_may_take_longer_when_calls_come_one_by_one() -> None:
    test = DriftTest(lambda rows: 0.02)
    assert looks(test, 0.4) == [None] * 6
    assert looks(test, 0.8, start=100)[-1] is not None


def test_the_rows_called_most_are_compared_by_their_own_cost() -> None:
    mixed = [(8, 80.0)] * MIN_CALLS + [(1, 500.0)] * (MIN_CALLS - 1)
    test = DriftTest(cost_ms)
    assert [test.look(mixed, 5.0 * at) for at in range(6)] == [None] * 6
    assert looks(DriftTest(cost_ms), 200.0, rows=8)[-1] == Drift(8, 200.0, 80.0)


def test_single_slow_calls_do_not_count() -> None:
    test = DriftTest(cost_ms)
    timings = [(1, 10.0)] * 20 + [(1, 900.0)] * 15
    assert [test.look(timings, 5.0 * at) for at in range(6)] == [None] * 6


def test_few_calls_are_kept_until_there_are_enough() -> None:
    test = DriftTest(cost_ms)
    found = [test.look([(1, 30.0)] * (MIN_CALLS // 4), 5.0 * at) for at in range(12)]
    assert found[:11] == [None] * 11, "three medians need twelve looks"
    assert found[11] is not None
    assert DriftTest(cost_ms).look([], 0.0) is None


def test_after_a_calibration_what_is_left_is_how_the_model_is_called() -> None:
    test = DriftTest(cost_ms, learns_usual=True)
    assert looks(test, 30.0) == [None] * 6
    assert looks(test, 40.0, start=100) == [None] * 6
    assert looks(test, 50.0, start=200)[-1] == Drift(1, 50.0, 10.0)

"""When calls take another time than they were measured to, for long enough to act on it."""

from runtime.engine.drift import LOOKS, MIN_CALLS, SUSTAINED_S, Drift, DriftTest, Timing, Verdict


def cost_ms(rows: int) -> float:
    return 10.0 * rows


def timing(rows: int, ms: float, alone_ms: float | None = None) -> Timing:
    return Timing(rows, ms, ms if alone_ms is None else alone_ms)


def looks(
    test: DriftTest,
    ms: float,
    *,
    alone_ms: float | None = None,
    rows: int = 1,
    calls: int = MIN_CALLS,
    start: float = 0.0,
) -> list[Drift | None]:
    """Six looks, five seconds apart."""
    return [test.look([timing(rows, ms, alone_ms)] * calls, start + 5.0 * at) for at in range(6)]


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
    assert [test.look([timing(1, 30.0)] * MIN_CALLS, at / 10) for at in range(20)] == [None] * 20


def test_a_good_look_between_starts_over() -> None:
    test = DriftTest(cost_ms)
    for at in range(12):
        ms = 10.0 if at % 3 == 2 else 30.0
        assert test.look([timing(1, ms)] * MIN_CALLS, 6.0 * at) is None


def test_faster_than_measured_is_drift_too() -> None:
    assert looks(DriftTest(cost_ms), 4.0)[-1] == Drift(1, 4.0, 10.0)


def test_small_models_may_take_longer_when_calls_come_one_by_one() -> None:
    test = DriftTest(lambda rows: 0.02)
    assert looks(test, 0.4) == [None] * 6
    assert looks(test, 0.8, start=100)[-1] is not None


def test_the_rows_called_most_are_compared_by_their_own_cost() -> None:
    mixed = [timing(8, 80.0)] * MIN_CALLS + [timing(1, 500.0)] * (MIN_CALLS - 1)
    test = DriftTest(cost_ms)
    assert [test.look(mixed, 5.0 * at) for at in range(6)] == [None] * 6
    assert looks(DriftTest(cost_ms), 200.0, rows=8)[-1] == Drift(8, 200.0, 80.0)


def test_single_slow_calls_do_not_count() -> None:
    test = DriftTest(cost_ms)
    timings = [timing(1, 10.0)] * 20 + [timing(1, 900.0)] * 15
    assert [test.look(timings, 5.0 * at) for at in range(6)] == [None] * 6


def test_few_calls_are_kept_until_there_are_enough() -> None:
    test = DriftTest(cost_ms)
    found = [test.look([timing(1, 30.0)] * (MIN_CALLS // 4), 5.0 * at) for at in range(12)]
    assert found[:11] == [None] * 11, "three medians need twelve looks"
    assert found[11] is not None
    assert DriftTest(cost_ms).look([], 0.0) is None


def test_after_a_calibration_what_is_left_is_how_the_model_is_called() -> None:
    test = DriftTest(cost_ms, learns_usual=True)
    assert looks(test, 30.0) == [None] * 6
    assert looks(test, 40.0, start=100) == [None] * 6
    assert looks(test, 50.0, start=200)[-1] == Drift(1, 50.0, 10.0)


def test_what_the_process_itself_costs_its_calls_is_no_drift() -> None:
    test = DriftTest(cost_ms)
    assert looks(test, 50.0, alone_ms=12.0) == [None] * 6
    assert test.verdict is Verdict.OWN_LOAD
    assert looks(test, 50.0, alone_ms=30.0, start=100)[-1] == Drift(1, 30.0, 10.0), "this much is not its own doing"
    assert test.verdict is Verdict.SLOWER


def test_calls_are_only_faster_when_they_took_less() -> None:
    test = DriftTest(cost_ms)
    assert looks(test, 10.0, alone_ms=1.0) == [None] * 6
    assert test.verdict is Verdict.AS_MEASURED
    (*_, last) = looks(test, 4.0, alone_ms=1.0, start=100)
    assert last == Drift(1, 4.0, 10.0)
    assert last.verdict is test.verdict is Verdict.FASTER


def test_a_look_that_saw_too_little_has_no_verdict() -> None:
    test = DriftTest(cost_ms)
    test.look([timing(1, 10.0)] * MIN_CALLS, 0.0)
    assert test.verdict is Verdict.AS_MEASURED
    test.look([timing(1, 10.0)], 5.0)
    assert test.verdict is None

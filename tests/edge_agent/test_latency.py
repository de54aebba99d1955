"""The latency window against a plain oracle."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.latency import LatencyWindow

SECONDS = st.floats(0, 100, allow_nan=False)


def test_an_empty_window_knows_nothing() -> None:
    assert LatencyWindow().quantile(0.95, 0.0) is None


@given(
    st.lists(st.tuples(st.floats(0, 5), SECONDS), max_size=60),
    st.floats(0.01, 1.0),
    st.integers(1, 20),
    st.floats(0.1, 30.0),
    st.floats(0, 40),
)
def test_quantiles_are_those_of_the_last_young_ones(
    gaps: list[tuple[float, float]], q: float, size: int, max_age_s: float, later_s: float
) -> None:
    window = LatencyWindow(size, max_age_s)
    now, entries = 0.0, []
    for gap_s, latency_s in gaps:
        now += gap_s
        window.add(latency_s, now)
        window.quantile(q, now)  # asking in between changes nothing
        entries.append((now, latency_s))
    now += later_s
    kept = sorted(latency_s for at, latency_s in entries[-size:] if now - at <= max_age_s)
    assert window.count(now) == len(kept)
    expected = kept[max(math.ceil(q * len(kept)), 1) - 1] if kept else None
    assert window.quantile(q, now) == expected
    if kept:
        assert sum(latency_s <= expected for latency_s in kept) >= q * len(kept)

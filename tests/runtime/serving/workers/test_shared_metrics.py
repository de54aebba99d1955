"""Totals and histograms of several workers as one: sums, no gauges, a torn file said and left out."""

from pathlib import Path

import pytest

from runtime.serving.workers.shared_metrics import SharedMetrics
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import Histogram


def families(model: str, count: int, value: int) -> list[Family]:
    histogram = Histogram((1, 10))
    histogram.add(value, count)
    return [
        Family("requests_total", Kind.COUNTER, "R.", [({"model": model}, count)]),
        Family("seconds", Kind.HISTOGRAM, "S.", [({"model": model}, histogram.read())]),
        Family("queue_rows", Kind.GAUGE, "Q.", [({}, count)]),
    ]


def test_totals_and_histograms_are_sums_and_gauges_are_left_out(tmp_path: Path) -> None:
    one, other = SharedMetrics(tmp_path, "worker-0-1"), SharedMetrics(tmp_path, "worker-1-2")
    one.publish(families("a", 3, 5))
    other.publish(families("a", 4, 50))
    SharedMetrics(tmp_path, "worker-0-3").publish(families("b", 1, 0))
    for worker, own in ((one, families("a", 3, 5)), (other, families("a", 4, 50))):
        totals, histograms = worker.with_others(own)
        assert {labels["model"]: value for labels, value in totals.samples} == {"a": 7, "b": 1}
        counts = {labels["model"]: value for labels, value in histograms.samples}
        assert (counts["a"].counts, counts["a"].sum, counts["b"].counts) == ((0, 3, 4), 215.0, (1, 0, 0))


def test_a_torn_file_does_not_count_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "worker-1-1.metrics").write_text('[{"name": "requests')
    (totals, _) = SharedMetrics(tmp_path, "worker-0-1").with_others(families("a", 2, 5))
    assert totals.samples == [({"model": "a"}, 2)]
    assert "cannot be read, and do not count" in caplog.text

"""The text format, held against prometheus-client's parser."""

import pytest

from runtime.telemetry.exposition import Family, Kind, merged, render
from runtime.telemetry.histogram import Histogram

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")


def test_labels_with_quotes_backslashes_and_line_ends_stay_readable() -> None:
    labels = {"model": 'a "b" \\ c\nd'}
    text = render([Family("x_total", Kind.COUNTER, "An x\nof \\ two lines.", [(labels, 2)])])
    (family,) = parser.text_string_to_metric_families(text)
    assert family.samples[0].labels == labels
    assert family.documentation == "An x\nof \\ two lines."


def test_a_histogram_is_cumulative_and_ends_in_infinity() -> None:
    histogram = Histogram((1_000, 2_000))
    for value in (500, 1_500, 1_600, 9_000):
        histogram.add(value)
    text = render([Family("t_seconds", Kind.HISTOGRAM, "T.", [({"model": "m"}, histogram.read(1e9))])])
    (family,) = parser.text_string_to_metric_families(text)
    assert family.type == "histogram"
    told = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert told == {
        ("t_seconds_bucket", "1e-06"): 1,
        ("t_seconds_bucket", "2e-06"): 3,
        ("t_seconds_bucket", "+Inf"): 4,
        ("t_seconds_count", None): 4,
        ("t_seconds_sum", None): pytest.approx(12_600e-9),
    }


def test_families_of_one_name_are_told_once() -> None:
    both = merged([Family("x", Kind.GAUGE, "X.", [({"a": "1"}, 1)]), Family("x", Kind.GAUGE, "X.", [({"a": "2"}, 2)])])
    assert len(both) == 1
    assert render(both).count("# TYPE x gauge") == 1
    assert [value for _, value in both[0].samples] == [1, 2]

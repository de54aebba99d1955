"""The table of drift counts whole streams at once; the test must get what summaries of the same rows would have told."""

import numpy as np
import pytest

from benchmarks.monitoring.streams import CHANGES, Change, make_run
from benchmarks.monitoring.table import BLOCK_ROWS, columns_of, counted, features_of
from runtime.monitoring.decision import DriftTest
from runtime.monitoring.reference import make_baseline
from runtime.monitoring.summary import Summary

ROWS = 3000


@pytest.mark.parametrize("change", [s for s in CHANGES if s.is_category or s.missing], ids=lambda s: s.name)
def test_what_is_counted_at_once_is_what_summaries_count(change: Change) -> None:
    reference, stream = make_run(change, 1)
    features = features_of(change)
    baseline = make_baseline("bench", 1, features, columns_of(reference, features))
    by_summary, at_once = DriftTest(baseline), DriftTest(baseline)
    found = False
    for block in counted(baseline, columns_of(stream[:ROWS], features), BLOCK_ROWS):
        first, last = int(block.began), int(block.ended)
        summary = Summary(baseline, use_sketches=False)
        summary.update_columns(columns_of(stream[first:last], features))
        told = by_summary.look(summary, block.began, block.ended)
        assert at_once.look_at(block, last - first) == told
        found = found or bool(told)
        for at, feature in enumerate(features):
            counts = summary.features[feature.name].counts
            np.testing.assert_array_equal(block.bins[at, : len(counts)], counts)
    assert found

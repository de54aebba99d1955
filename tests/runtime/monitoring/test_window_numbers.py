"""A window as a bounded set of numbers for charts."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.monitoring.layout import columns, features_of
from runtime.monitoring.reference import make_baseline
from runtime.monitoring.summary import Summary
from runtime.monitoring.window_numbers import MAX_NUMBERS, window_numbers
from runtime.tensors import TensorSpec
from tests.runtime.monitoring.streams import baseline, rows


def window() -> Summary:
    summary = Summary(baseline())
    inputs, outputs = rows(5, 1000)
    inputs["x"][:100, 0] = float("nan")
    summary.update(inputs, outputs)
    return summary


def test_every_input_and_output_has_its_numbers() -> None:
    told = window_numbers(window())
    values = {(name, stat): value for name, stat, value in told.values}
    assert values["x[1]", "mean"] == pytest.approx(10, abs=0.2)
    assert values["x[1]", "p10"] < values["x[1]", "p50"] < values["x[1]", "p90"]
    assert 0 < values["p.confidence", "p50"] < 1
    assert dict(told.missing)["x[0]"] == 0.1
    shares = {word: share for name, word, share in told.shares if name == "site"}
    assert shares["north"] == pytest.approx(0.6, abs=0.05)
    assert shares["values never seen before"] == 0
    classes = [share for name, word, share in told.shares if name == "p.class" and "never" not in word]
    assert sum(classes) == pytest.approx(1)


def test_where_there_is_no_room_what_drifts_and_what_is_answered_come_first() -> None:
    summary = window()
    told = window_numbers(summary, ["p[3]"], most=20)
    assert len(told) == 20
    names = [name for name, _ in told.missing]
    assert names[:2] == ["p[3]", "p.class"]
    assert len(names) < len(summary.features)


def test_every_feature_of_a_wide_model_has_its_mean_before_any_has_quantiles() -> None:
    features = features_of([TensorSpec("wide", "FP32", (-1, 60))], [], is_classifier=False, ranges={})
    drawn = np.random.default_rng(1).normal(size=(200, 60)).astype(np.float32)
    base = make_baseline("m", 1, features, columns(features, {"wide": drawn}, {}))
    summary = Summary(base)
    summary.update({"wide": drawn}, {})
    told = window_numbers(summary, ["wide[59]"])
    assert len(told) == MAX_NUMBERS
    stats = {name: [stat for each, stat, _ in told.values if each == name] for name in summary.features}
    assert stats.pop("wide[59]") == ["mean", "p10", "p50", "p90"], "it drifts"
    assert set(map(tuple, stats.values())) == {("mean",)}

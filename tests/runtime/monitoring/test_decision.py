"""Drift is found soon, named rightly, and not seen where there is none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import psutil
import pytest

from runtime.monitoring.blob import to_blob
from runtime.monitoring.decision import Against, DriftSettings, DriftTest, Measure
from runtime.monitoring.layout import Feature, Kind, Role, columns, features_of
from runtime.monitoring.monitor import Learner, Monitor, Window
from runtime.monitoring.reference import Baseline, make_baseline
from runtime.monitoring.summary import Summary
from runtime.monitoring.verdict import Suspect, Verdict, bin_label
from runtime.tensors import TensorSpec

NUMBER = Feature("t", "t", Role.INPUT, Kind.NUMBER, "column:0")
CATEGORY = Feature("c", "c", Role.INPUT, Kind.CATEGORY, "column:0")
BLOCK = 100


def make(values: Any, feature: Feature = NUMBER) -> Baseline:
    return make_baseline("m", 1, [feature], {feature.name: values})


def watch(base: Baseline, values: Any) -> tuple[Monitor, list[tuple[int, Verdict]]]:
    """Every fresh verdict and the row it came at."""
    monitor, found = Monitor(base), []
    for first in range(0, len(values), BLOCK):
        summary = Summary(base)
        summary.update_columns({base.features[0].name: values[first : first + BLOCK]})
        found += [(first + BLOCK, v) for v in monitor.add(Window(summary, float(first), float(first + BLOCK)))]
    return monitor, found


def test_nothing_is_found_where_nothing_changed() -> None:
    """Thirty features, forty looks: one false alarm in a hundred such tests at most by design, none with this seed."""
    rng = np.random.default_rng(11)
    features = [Feature(f"x{at}", "x", Role.INPUT, Kind.NUMBER, f"column:{at}") for at in range(30)]
    base = make_baseline("m", 1, features, {f.name: rng.normal(size=3000) for f in features})
    test = DriftTest(base)
    for look in range(40):
        summary = Summary(base, use_sketches=False)
        summary.update_columns({f.name: rng.normal(size=BLOCK) for f in features})
        assert test.look(summary, look, look + 1) == []


@pytest.mark.parametrize(("shift", "most"), [(0.5, 600), (1.0, 300)])
def test_a_shift_is_found_soon_and_dated(shift: float, most: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=4000)
    values[2000:] += shift
    _, found = watch(make(rng.normal(size=5000)), values)
    assert found
    row, verdict = found[0]
    assert 2000 < row <= 2000 + most
    assert 1800 <= verdict.finding.since <= row
    assert verdict.size.ks > verdict.chance["ks"]


@pytest.mark.parametrize(
    ("change", "suspect", "words"),
    [
        (lambda v: v * 1.8 + 32, Suspect.UNIT_CHANGE, "°C became °F"),
        (lambda v: v + 273.15, Suspect.UNIT_CHANGE, "°C became K"),
        (lambda v: v * 1000, Suspect.UNIT_CHANGE, "1,000"),
        (lambda v: v / 100, Suspect.UNIT_CHANGE, "divided by 100"),
        (lambda v: -v, Suspect.INVERSION, "× before"),
        (lambda v: v + 3, Suspect.OFFSET, "× before"),
        (lambda v: v * 1.4, Suspect.RESCALED, "× before"),
        (lambda v: np.full_like(v, 7.0), Suspect.STUCK, "always 7"),
        (lambda v: np.where(np.arange(len(v)) % 8, v, np.nan), Suspect.MISSING, "12."),
        (lambda v: np.where(np.arange(len(v)) % 8, v, np.inf), Suspect.NOT_FINITE, "12."),
        (lambda v: np.where(np.arange(len(v)) % 2, v, v**2 / 10), Suspect.COVARIATE_SHIFT, "changed place"),
    ],
)
def test_the_kind_of_cause_is_suspected(change: Any, suspect: Suspect, words: str) -> None:
    rng = np.random.default_rng(4)
    values = rng.gamma(4, 5, size=4000)
    values[2000:] = change(values[2000:])
    monitor, found = watch(make(rng.gamma(4, 5, size=5000)), values)
    assert found
    verdict = monitor.verdicts["t"]
    assert (verdict.suspect, words in verdict.detail) == (suspect, True), str(verdict)
    assert verdict.next_step
    assert verdict.bins
    assert verdict.to_dict()["suspect"] == suspect.value


def test_new_categories_in_their_thousands_are_one_verdict_with_examples() -> None:
    rng = np.random.default_rng(5)
    base = make(rng.choice(["a", "b", "c"], 3000).tolist(), CATEGORY)
    values = rng.choice(["a", "b", "c"], 4000).tolist()
    values[2000:] = [f"new {at}" if at % 10 == 0 else value for at, value in enumerate(values[2000:])]
    monitor, found = watch(base, values)
    assert [verdict.suspect for _, verdict in found] == [Suspect.NEW_CATEGORY]
    assert "new " in monitor.verdicts["c"].detail
    assert any(b.label == "values never seen before" for b in monitor.verdicts["c"].bins)


@pytest.mark.slow
def test_new_categories_in_their_millions_are_one_verdict_and_are_not_kept() -> None:
    base = make(np.random.default_rng(5).choice(["a", "b", "c"], 3000).tolist(), CATEGORY)
    monitor, window, before = Monitor(base), 20_000, psutil.Process().memory_info().rss
    for at in range(100):
        values = [f"an identifier in a category's field {at} {row}" for row in range(window)]
        summary = Summary(base)
        summary.update_columns({"c": values})
        monitor.add(Window(summary, float(at), float(at + 1)))
    (verdict,) = monitor.verdicts.values()
    assert verdict.suspect is Suspect.NEW_CATEGORY
    document = monitor.document()
    assert document["features"]["c"]["out_of_schema"] == document["rows"] == 2_000_000
    assert len(json.dumps(document)) < 20_000
    assert len(to_blob(summary)) < 20_000
    # Two million such names would take 190 MB.
    assert psutil.Process().memory_info().rss - before < 60e6


def test_texts_about_something_else_are_found_in_the_models_embedding() -> None:
    """What only turns in space leaves the mean, the spread and the range of a row as they were."""
    rng = np.random.default_rng(8)
    features = features_of([], [TensorSpec("e", "FP32", (-1, 384))], is_classifier=False, ranges={})
    topics = rng.normal(size=(2, 384))
    topics -= topics.mean(axis=1, keepdims=True)

    def embedded(topic: int, rows: int) -> dict[str, Any]:
        drawn = 0.5 * topics[topic] + rng.normal(size=(rows, 384))
        return {"e": (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)}

    base = make_baseline("m", 1, features, columns(features, {}, embedded(0, 2000)))
    monitor = Monitor(base)
    for at in range(25):
        if at == 20:
            assert not monitor.verdicts
        summary = Summary(base)
        summary.update({}, embedded(int(at >= 20), BLOCK))
        monitor.add(Window(summary, float(at), float(at + 1)))
    assert monitor.verdicts
    assert all(name.startswith("e.direction_") for name in monitor.verdicts)


@pytest.mark.parametrize(
    ("edges", "labels"),
    [
        ((0.0, 5e-324), ["below 0", "exactly 0", "above 0"]),
        ((2.0, float(np.nextafter(2, 3)), 4.0), ["below 2", "exactly 2", "above 2 to 4", "4 and above"]),
        ((1.0, 2.0), ["below 1", "1 to 2", "2 and above"]),
        ((), ["all values"]),
    ],
)
def test_bins_are_called_by_numbers_that_people_write(edges: tuple[float, ...], labels: list[str]) -> None:
    reference = make(np.arange(100.0)).references[0].model_copy(update={"edges": edges})
    assert [bin_label(reference, at) for at in range(len(edges) + 1)] == labels


def test_shares_of_categories() -> None:
    rng = np.random.default_rng(6)
    base = make(rng.choice(["a", "b", "c"], 5000, p=(0.6, 0.3, 0.1)).tolist(), CATEGORY)
    values = [
        *rng.choice(["a", "b", "c"], 1000, p=(0.6, 0.3, 0.1)),
        *rng.choice(["a", "b", "c"], 2000, p=(0.5, 0.3, 0.2)),
    ]
    _, found = watch(base, [str(value) for value in values])
    assert found[0][1].suspect is Suspect.COVARIATE_SHIFT


def test_a_tenth_of_the_rows_beyond_all_of_the_reference_is_found_soon() -> None:
    """Ranks, KS and χ² need thousands of rows for it, and more than the reference has."""
    rng = np.random.default_rng(12)
    values = rng.uniform(size=3000)
    values[1000:][rng.random(2000) < 0.1] += 1
    _, found = watch(make(rng.uniform(size=450)), values)
    row, verdict = found[0]
    assert 1000 < row <= 1400
    assert verdict.finding.measure is Measure.SHARE
    assert verdict.bins[0].reference_share == 0
    assert verdict.bins[0].label.endswith("and above")


def test_the_outer_bins_raise_no_more_false_alarms_than_they_may() -> None:
    """With half of a chance to be wrong instead of a twentieth, so that few runs tell; of normal rows, whose ends are far."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng([13, seed])
        base = make(rng.normal(size=300))
        test = DriftTest(base, DriftSettings(alpha=0.5, min_shift=0.0, min_share=0.0))
        for look in range(20):
            summary = Summary(base, use_sketches=False)
            summary.update_columns({"t": rng.normal(size=BLOCK)})
            if test.look(summary, look, look + 1):
                alarms += 1
                break
    assert alarms <= 20


def test_a_real_but_trifling_difference_is_no_verdict() -> None:
    rng = np.random.default_rng(7)
    base = make(rng.normal(size=200_000))
    summary = Summary(base)
    summary.update_columns({"t": rng.normal(0.03, 1, 200_000)})
    assert DriftTest(base).look(summary, 0, 1) == [], "1.2 % of rows changed bins"
    fine = DriftTest(base, DriftSettings(min_shift=0.005))
    assert [f.measure for f in fine.look(summary, 0, 1)] == [Measure.RANKS]


def test_it_clears_once_rows_lie_as_before() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=6000)
    values[1000:2000] += 2
    monitor, found = watch(make(rng.normal(size=5000)), values)
    assert found
    assert monitor.verdicts == {}


def test_without_a_reference_the_first_rows_become_it() -> None:
    rng = np.random.default_rng(9)
    learner, base = Learner("m", 1, (NUMBER,)), None
    while base is None:
        base = learner.update({"t": rng.normal(size=(64, 1))}, {})
    assert (base.source, base.rows >= 1000) == ("first rows", True)
    values = rng.normal(size=3000)
    values[1500:] += 1
    _, found = watch(base, values)
    assert found[0][0] <= 2000


def test_rows_before_are_a_reference_too() -> None:
    """The reference says nothing of the feature, as for outputs of devices whose variants differ."""
    rng = np.random.default_rng(10)
    base = make(rng.normal(size=2000))
    silent = base.references[0].model_copy(update={"rows": 0, "counts": (0,) * len(base.references[0].counts)})
    base = Baseline("m", 1, "bundle", base.features, (silent,))
    values = rng.normal(size=4000)
    values[2000:] += 1
    _, found = watch(base, values)
    assert found[0][1].finding.against is Against.BEFORE
    assert found[0][0] <= 2500


def test_too_few_rows_say_nothing() -> None:
    base = make(np.random.default_rng(1).normal(size=2000))
    summary = Summary(base)
    summary.update_columns({"t": np.full(49, 100.0)})
    assert DriftTest(base).look(summary, 0, 1) == []


def test_windows_that_come_days_late_are_dated_by_when_they_were() -> None:
    """A device returns with the first days of a change that others have told of since."""
    base = make(np.random.default_rng(14).normal(size=5000))

    def fed(order: list[int]) -> Monitor:
        rng = np.random.default_rng(15)
        blocks = [rng.normal(size=BLOCK) + (1 if at >= 20 else 0) for at in range(40)]
        monitor = Monitor(base)
        for at in order:
            summary = Summary(base)
            summary.update_columns({"t": blocks[at]})
            monitor.add(Window(summary, float(at), float(at + 1)))
        return monitor

    late = [20, 21, 22, 23]
    in_time = fed(list(range(40))).verdicts["t"].finding
    returned = fed([at for at in range(40) if at not in late] + late).verdicts["t"].finding
    assert in_time.since == returned.since == 20
    calm_late = fed([at for at in range(40) if at > 5] + list(range(6)))
    assert calm_late.verdicts["t"].finding.since == 20, "calm rows of the past are no end of it"
    assert calm_late.rows == 4000

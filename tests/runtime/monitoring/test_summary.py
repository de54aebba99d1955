"""Windows of many devices joined equal one stream; bad values are counted apart and never raise."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.monitoring.layout import IMAGE_WORDS, Kind, columns, features_of
from runtime.monitoring.moments import Moments
from runtime.monitoring.reference import make_baseline
from runtime.monitoring.summary import CategorySummary, NumberSummary, Summary
from runtime.tensors import TensorSpec
from tests.runtime.monitoring.streams import FEATURES, baseline, rows


@pytest.mark.parametrize("use_sketches", [None, False])
def test_a_hundred_devices_merged_equal_one_stream(use_sketches: bool | None) -> None:
    base = baseline()
    inputs, outputs = rows(7, 10_000)
    inputs["x"][::97, 1] = np.nan
    inputs["x"][5::501, 2] = np.inf
    whole, merged = Summary(base, use_sketches=use_sketches), Summary(base, use_sketches=use_sketches)
    whole.update(inputs, outputs)
    for part in np.array_split(np.arange(10_000), 100):
        device = Summary(base, use_sketches=use_sketches)
        device.update({n: v[part] for n, v in inputs.items()}, {n: v[part] for n, v in outputs.items()})
        merged.merge(device)
    assert merged.rows == whole.rows == 10_000
    for name, one in whole.features.items():
        other = merged.features[name]
        np.testing.assert_array_equal(other.counts, one.counts)
        assert (other.rows, other.missing, other.not_finite, other.out_of_schema) == (
            one.rows, one.missing, one.not_finite, one.out_of_schema,
        )  # fmt: skip
        if isinstance(one, NumberSummary) and isinstance(other, NumberSummary):
            assert (other.moments.count, other.moments.low, other.moments.high) == (
                one.moments.count, one.moments.low, one.moments.high,
            )  # fmt: skip
            assert other.moments.mean == pytest.approx(one.moments.mean, rel=1e-9, abs=1e-12)
            assert other.moments.std == pytest.approx(one.moments.std, rel=1e-9)
            deciles, expected = other.deciles(), one.deciles()
            assert deciles is not None
            assert expected is not None
            spread = one.moments.high - one.moments.low
            np.testing.assert_allclose(deciles[1:-1], expected[1:-1], atol=0.05 * spread)
        elif isinstance(one, CategorySummary) and isinstance(other, CategorySummary):
            assert [i.name for i in other.items.top(3)] == [i.name for i in one.items.top(3)]


def test_every_kind_of_bad_value_has_a_count_of_its_own() -> None:
    base = baseline()
    summary = Summary(base)
    inputs, outputs = rows(1, 6)
    inputs["x"][:, 0] = [np.nan, np.inf, -np.inf, 1e38, 0, 0]
    inputs["site"][:, 0] = [b"", b"north", b"\xff", b"new", b"x" * 100_000, b"west"]
    outputs["p"][0] = np.nan
    summary.update(inputs, outputs)
    x, site = summary.features["x[0]"], summary.features["site"]
    assert (x.rows, x.missing, x.not_finite, int(x.counts.sum())) == (6, 1, 2, 3)
    assert (site.rows, site.missing, site.out_of_schema) == (6, 1, 3)
    assert summary.features["p.confidence"].missing == 1
    assert summary.features["p.class"].rows == 6


def test_a_constant_feature_and_an_empty_window_are_fine() -> None:
    features = features_of([TensorSpec("x", "FP64", (-1,))], [], is_classifier=False, ranges={})
    base = make_baseline("m", 1, features, {"x": np.full(100, 4.0)})
    summary = Summary(base)
    summary.update_columns({"x": np.full(50, 4.0)})
    summary.update_columns({"x": np.array([])})
    summary.update_columns({"x": np.array([5.0])})
    x = summary.features["x"]
    assert int(x.counts.max()) == 50
    assert int(x.counts.sum()) == 51, "what is not the constant has a bin of its own"


def test_moments_agree_with_numpy() -> None:
    values = np.random.default_rng(3).normal(1e6, 1e-3, 10_000)
    merged = Moments()
    for part in np.array_split(values, 33):
        merged = merged.merged(Moments.of(part))
    assert merged.std == pytest.approx(values.std(), rel=1e-6)
    assert Moments.of(np.array([1e308, -1e308])).std < np.inf


def test_other_baselines_do_not_join() -> None:
    with pytest.raises(ValueError, match="another bundle, version or bins"):
        Summary(baseline()).merge(Summary(baseline(500)))


def test_the_rule_for_features() -> None:
    names = [f.name for f in FEATURES]
    assert names[:4] == ["x[0]", "x[1]", "x[2]", "site"]
    assert names[4:8] == ["p.class", "p.confidence", "p.entropy", "p.class_and_confidence"]
    image = features_of([TensorSpec("i", "UINT8", (-1, 32, 32, 3))], [], is_classifier=False, ranges={})
    assert [f.name.partition(".")[2] for f in image] == list(IMAGE_WORDS)
    wide = features_of([TensorSpec("w", "FP32", (-1, 4000))], [], is_classifier=False, ranges={})
    directions = [f"direction_{at}" for at in range(1, 9)]
    assert [f.name.partition(".")[2] for f in wide] == ["mean", "std", "min", "max", *directions]
    tokens = features_of([TensorSpec("t", "INT64", (-1, -1))], [], is_classifier=False, ranges={})
    assert [f.name.partition(".")[2] for f in tokens] == ["mean", "std", "min", "max"], "ids lie nowhere"
    for columns_ in (
        -1,
        100_000,
    ):  # as wide as a caller chooses, or so wide that eight of them weigh as much as the rows
        sound = features_of([TensorSpec("s", "FP32", (-1, columns_))], [], is_classifier=False, ranges={})
        assert [f.name.partition(".")[2] for f in sound] == ["mean", "std", "min", "max"]
    flag = features_of([TensorSpec("f", "BOOL", (-1, 1))], [], is_classifier=False, ranges={})
    assert flag[0].kind is Kind.CATEGORY
    assert features_of([TensorSpec("fixed", "FP32", (4, 4))], [], is_classifier=False, ranges={}) == ()


def test_directions_are_at_right_angles_and_say_slope_and_bend() -> None:
    features = features_of([], [TensorSpec("e", "FP32", (-1, 200))], is_classifier=False, ranges={})
    basis = np.eye(200, dtype=np.float32)
    told = columns(features, {}, {"e": basis})
    along = np.stack([told[f"e.direction_{at}"] for at in range(1, 9)], axis=1)
    np.testing.assert_allclose(along.T @ along, np.eye(8), atol=1e-6)
    np.testing.assert_allclose(along.sum(axis=0), 0, atol=1e-5)
    slope = np.linspace(-1, 1, 200, dtype=np.float32)
    rows = np.stack([slope, -slope, slope**2, np.full(200, np.nan), np.full(200, 3e38)]).astype(np.float32)
    told = columns(features, {}, {"e": rows})
    first, second = told["e.direction_1"], told["e.direction_2"]
    assert first[0] == -first[1]
    assert abs(first[0]) > 5 > 0.01 > abs(first[2])
    assert abs(second[2]) > 1 > 0.01 > abs(second[0])
    assert np.isnan(first[3])
    assert np.isfinite(first[4])


def test_image_features_see_light_and_place() -> None:
    features = features_of([TensorSpec("i", "FP32", (-1, 1, 8, 8))], [], is_classifier=False, ranges={})
    images = np.zeros((3, 1, 8, 8), np.float32)
    images[1, 0, :, 4:] = 1
    images[2] = 1
    told = columns(features, {"i": images}, {})
    np.testing.assert_allclose(told["i.brightness"], [0, 0.5, 1])
    assert told["i.centre_x"][0] == 0.5
    assert told["i.centre_x"][1] > 0.7
    assert told["i.sharpness"][1] > told["i.sharpness"][2] == 0
    assert (told["i.darkest"].tolist(), told["i.lightest"].tolist()) == ([0, 0, 1], [0, 1, 1])
    assert told["i.flatness"].tolist() == [1, pytest.approx(1 - 8 / 56 / 2), 1]
    noisy = images + np.random.default_rng(1).normal(0, 0.2, images.shape).astype(np.float32)
    assert (columns(features, {"i": noisy}, {})["i.flatness"] < 0.2).all()

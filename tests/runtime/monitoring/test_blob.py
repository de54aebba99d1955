"""Statistics as bytes: whole ones come back, all others are refused with their reason, whatever they are."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.monitoring.blob import _HEAD, MAX_BLOB_BYTES, REASONS, BlobError, from_blob, identify, to_blob
from runtime.monitoring.monitor import Monitor, Window
from runtime.monitoring.summary import Summary
from tests.runtime.monitoring.streams import baseline, rows

BASE = baseline()


def filled(count: int = 500) -> Summary:
    summary = Summary(BASE)
    summary.update(*rows(5, count))
    return summary


BLOB = to_blob(filled())


def changed(**features: Any) -> bytes:
    """The blob with something else in it, its checksum right."""
    document = json.loads(zlib.decompress(BLOB[_HEAD.size :]))
    for path, value in features.items():
        feature, key = path.split("__")
        document["features"][{"x": "x[0]", "site": "site"}[feature]][key] = value
    return packed(json.dumps(document).encode())


def packed(raw: bytes, version: int = 1) -> bytes:
    return _HEAD.pack(b"EWSM", version, len(raw), zlib.crc32(raw)) + zlib.compress(raw)


def test_there_and_back() -> None:
    read, whole = from_blob(BLOB, BASE), filled()
    assert (read.rows, identify(BLOB)) == (500, ("m", 3))
    for name, feature in whole.features.items():
        np.testing.assert_array_equal(read.features[name].counts, feature.counts)
    again = Summary(BASE)
    again.merge(read)
    assert again.rows == 500
    assert len(BLOB) / len(whole.features) < 20_000
    slim = to_blob(whole, with_quantiles=False)
    assert len(slim) < len(BLOB) / 2
    assert from_blob(slim, BASE).rows == 500


REFUSED = {
    "nothing": (b"", "not_one"),
    "a zip": (b"PK\x03\x04" + bytes(100), "not_one"),
    "of a later version": (b"EWSM\x02" + BLOB[5:], "version"),
    "cut off": (BLOB[:-10], "truncated"),
    "a hole": (BLOB[:40] + b"\0\0\0" + BLOB[43:], "truncated"),
    "too long": (bytes(MAX_BLOB_BYTES + 1), "too_large"),
    "too long once unpacked": (_HEAD.pack(b"EWSM", 1, 1 << 31, 0) + BLOB[13:], "too_large"),
    "longer than it says": (_HEAD.pack(b"EWSM", 1, 1000, 0) + zlib.compress(bytes(50_000_000)), "truncated"),
    "too deep": (packed(b"[" * 100_000), "schema"),
    "a model alone": (packed(b'{"model": "m"}'), "schema"),
    "null": (packed(b"null"), "schema"),
}


@pytest.mark.parametrize(("blob", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_blob_is_refused_with_its_reason(blob: bytes, reason: str) -> None:
    with pytest.raises(BlobError) as refused:
        from_blob(blob, BASE)
    assert refused.value.reason == reason
    assert reason in REASONS


@pytest.mark.parametrize(
    "lie",
    [
        {"x__count": 499},
        {"x__missing": 400},
        {"x__bins": [1, 2, 3]},
        {"x__bins": [-1] * 16},
        {"x__mean": 1e300},
        {"x__low": None},
        {"x__rows": 1 << 60},
        {"x__squares": 1e300},
        {"x__squares": 6e4},
        {"x__quantiles": ["kll", "AAAA"]},
        {"x__quantiles": ["kll", "!"]},
        {"x__quantiles": ["fixed", "AAAA"]},
        {"x__quantiles": ["pickle", "AAAA"]},
        {"site__items": [["north", 10**9, 10**9]]},
        {"site__items": [["n" * 1000, 1, 1]]},
        {"site__kind": "number"},
    ],
)
def test_statistics_that_contradict_themselves_are_refused(lie: dict[str, Any]) -> None:
    with pytest.raises(BlobError) as refused:
        from_blob(changed(**lie), BASE)
    assert refused.value.reason == "schema"


def test_rows_of_all_are_no_fewer_than_those_of_a_feature_and_no_more_than_can_be_added_up() -> None:
    document = json.loads(zlib.decompress(BLOB[_HEAD.size :]))
    for lie in (0, 499, 1 << 48, -1):
        with pytest.raises(BlobError) as refused:
            from_blob(packed(json.dumps(document | {"rows": lie}).encode()), BASE)
        assert refused.value.reason == "schema"


@pytest.mark.parametrize("values", [[4.0] * 7, [1e6] * 3, [-1e140, 1e140], [0.0, 1.0] * 5, [1e-300, 2e-300], [3.7]])
def test_the_spread_of_any_numbers_is_taken(values: list[float]) -> None:
    summary = Summary(BASE)
    inputs, outputs = rows(1, len(values))
    inputs["x"] = np.tile(np.array(values)[:, None], (1, 3))
    summary.update(inputs, outputs)
    assert from_blob(to_blob(summary), BASE).rows == len(values)


def test_another_model_version_or_baseline_is_named() -> None:
    for other, reason in (
        (replace(BASE, model="n"), "model"),
        (replace(BASE, version=4), "model"),
        (baseline(500), "baseline"),
    ):
        with pytest.raises(BlobError) as refused:
            from_blob(BLOB, other)
        assert refused.value.reason == reason


@given(
    st.lists(st.tuples(st.integers(0, len(BLOB) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, len(BLOB)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_change_is_refused(changes: list[tuple[int, int]], end: int) -> None:
    blob = bytearray(BLOB)
    for at, byte in changes:
        blob[at] = byte
    for candidate in (bytes(blob), bytes(blob[:end])):
        if candidate != BLOB:
            with pytest.raises(BlobError):
                from_blob(candidate, BASE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.sampled_from(["rows", "count", "mean", "squares", "low", "bins", "quantiles", "items", "blind", "kind"]), JSON
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_hostile_fields_are_refused_or_harmless(key: str, value: Any) -> None:
    """Whatever is taken can be merged and looked at."""
    feature = "site" if key in ("items", "blind") else "x"
    try:
        read = from_blob(changed(**{f"{feature}__{key}": value}), BASE)
    except BlobError:
        return
    monitor = Monitor(BASE)
    monitor.add(Window(read, 0.0, 1.0))
    json.dumps(monitor.document(), allow_nan=False)

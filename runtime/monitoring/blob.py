"""A summary as bytes that travel, and back from bytes that anybody may have made.

`EWSM`, one byte of version, four of the unpacked length, a CRC-32, then JSON packed with zlib. Read in this order: size,
magic, version, length, checksum, schema, and only then whether it is of the baseline that is expected here. `BlobError` says
which it was.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.bundle.profile import FeatureReference
from runtime.errors import InvalidInputError
from runtime.monitoring.discretion import coarse_range, middle_of, told_names
from runtime.monitoring.items import MAX_NAME, MAX_TOLD, Item, told_items
from runtime.monitoring.layout import MAX_FEATURES
from runtime.monitoring.moments import LARGEST, Moments
from runtime.monitoring.quantiles import has_sketches, quantiles_from_bytes
from runtime.monitoring.reference import Baseline
from runtime.monitoring.summary import CategorySummary, FeatureSummary, NumberSummary, Summary

MAGIC: Final = b"EWSM"
VERSION: Final = 1
MAX_BLOB_BYTES: Final = 2 << 20
"""512 features of 4 KB packed; ordinary models take some tens of KB."""
MAX_UNPACKED_BYTES: Final = 12 << 20
MAX_ROWS: Final = 1 << 36
"""Of one window: 200 a second for eleven years. All that a gateway keeps, added up, is a whole number in float64 and int64."""
_HEAD: Final = struct.Struct("<4sBII")

Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class BlobError(InvalidInputError):
    """A summary that is not taken, and why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """One of `REASONS`, to count by."""


REASONS: Final = ("too_large", "not_one", "version", "truncated", "schema", "model", "baseline")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Number(_Part):
    kind: Literal["number"]
    rows: Count
    missing: Count
    not_finite: Count
    out_of_schema: Count
    count: Count
    mean: Real
    squares: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    low: Real | None
    high: Real | None
    bins: list[Count] = Field(max_length=66)
    quantiles: tuple[Literal["kll", "fixed"], Annotated[str, Field(max_length=16_384)]] | None


class _Category(_Part):
    kind: Literal["category"]
    rows: Count
    missing: Count
    out_of_schema: Count
    bins: list[Count] = Field(max_length=66)
    items: list[tuple[Annotated[str, Field(max_length=MAX_NAME)], Count, Count]] = Field(max_length=MAX_TOLD)
    blind: Count


class _Document(_Part):
    model: str = Field(max_length=128)
    version: int = Field(ge=0)
    baseline: str = Field(max_length=24)
    rows: Count
    features: dict[str, Annotated[_Number | _Category, Field(discriminator="kind")]] = Field(max_length=MAX_FEATURES)


def to_blob(summary: Summary, *, with_quantiles: bool = True) -> bytes:
    """The bytes, as coarse as `discretion` says; without quantiles they are about a fourth."""
    baseline = summary.baseline
    document = {
        "model": baseline.model,
        "version": baseline.version,
        "baseline": baseline.key,
        "rows": summary.rows,
        "features": {
            described.name: _told(summary.features[described.name], reference, with_quantiles)
            for described, reference in zip(baseline.features, baseline.references, strict=True)
        },
    }
    raw = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return _HEAD.pack(MAGIC, VERSION, len(raw), zlib.crc32(raw)) + zlib.compress(raw, 6)


def identify(blob: bytes) -> tuple[str, int]:
    """(model, version) that a blob says it is of, after it was found to be one."""
    document = _read(blob)
    return document.model, document.version


def from_blob(blob: bytes, baseline: Baseline) -> Summary:
    """The summary in `blob`, which counts by `baseline`; `BlobError` for anything else."""
    document = _read(blob)
    if (document.model, document.version) != (baseline.model, baseline.version):
        raise BlobError(
            "model",
            f"the statistics are of model {document.model!r} version {document.version}; "
            f"expected {baseline.model!r} version {baseline.version}",
        )
    if document.baseline != baseline.key or set(document.features) != {f.name for f in baseline.features}:
        raise BlobError(
            "baseline",
            f"the statistics count by baseline {document.baseline!r}, here it is {baseline.key!r}: "
            "the bundle there is another one, although its name and version are the same",
        )
    if any(told.rows > document.rows for told in document.features.values()):
        raise BlobError("schema", f"a feature has more rows than the {document.rows} of all")
    summary = Summary(baseline)
    summary.rows = document.rows
    for name, told in document.features.items():
        mine = summary.features[name]
        if isinstance(mine, NumberSummary) and isinstance(told, _Number):
            _fill_number(name, mine, told)
        elif isinstance(mine, CategorySummary) and isinstance(told, _Category):
            _fill_category(name, mine, told)
        else:
            raise BlobError("schema", f"feature {name!r} is a {told.kind} there, not here")
    return summary


def _read(blob: bytes) -> _Document:
    if len(blob) > MAX_BLOB_BYTES:
        raise BlobError("too_large", f"statistics of {len(blob)} bytes; at most {MAX_BLOB_BYTES} are taken")
    if len(blob) < _HEAD.size or blob[:4] != MAGIC:
        raise BlobError("not_one", f"{len(blob)} bytes that are no statistics: they do not begin with {MAGIC!r}")
    _, version, size, checksum = _HEAD.unpack_from(blob)
    if version != VERSION:
        raise BlobError("version", f"statistics of version {version}; this program reads version {VERSION}")
    if size > MAX_UNPACKED_BYTES:
        raise BlobError("too_large", f"statistics that unpack to {size} bytes; at most {MAX_UNPACKED_BYTES} are taken")
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(blob[_HEAD.size :], size + 1)
    except zlib.error as error:
        raise BlobError("truncated", f"the statistics do not unpack: {error}") from error
    if len(raw) != size or not unpacking.eof or zlib.crc32(raw) != checksum:
        raise BlobError("truncated", "the statistics are cut short or changed: length or checksum do not hold")
    try:
        return _Document.model_validate_json(raw)
    except (ValidationError, RecursionError) as error:
        first = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else "nested too deeply"
        raise BlobError("schema", f"the statistics do not fit their schema: {first}") from error


def _told(feature: FeatureSummary, reference: FeatureReference, with_quantiles: bool) -> dict[str, Any]:
    if isinstance(feature, NumberSummary):
        return _number(feature, middle_of(reference), with_quantiles)
    return _category(feature, reference)


def _number(feature: NumberSummary, middle: float, with_quantiles: bool) -> dict[str, Any]:
    moments, kept = feature.moments, feature.quantiles
    is_told = with_quantiles and kept is not None
    low, high = coarse_range(moments.low, moments.high, middle) if moments.count else (None, None)
    return {
        "kind": "number",
        "rows": feature.rows,
        "missing": feature.missing,
        "not_finite": feature.not_finite,
        "out_of_schema": feature.out_of_schema,
        "count": moments.count,
        "mean": moments.mean,
        "squares": moments.squares,
        "low": low,
        "high": high,
        "bins": feature.counts.tolist(),
        "quantiles": [kept.kind, base64.b64encode(kept.to_bytes(middle)).decode()]
        if is_told and kept is not None
        else None,
    }


def _category(feature: CategorySummary, reference: FeatureReference) -> dict[str, Any]:
    items, blind = told_names(feature.items, reference, MAX_TOLD)
    return {
        "kind": "category",
        "rows": feature.rows,
        "missing": feature.missing,
        "out_of_schema": feature.out_of_schema,
        "bins": feature.counts.tolist(),
        "items": [(item.name, item.low, item.high) for item in items],
        "blind": blind,
    }


def _fill_number(name: str, mine: NumberSummary, told: _Number) -> None:
    finite = told.rows - told.missing - told.not_finite
    slack = 1e-9 * max(abs(told.low or 0.0), abs(told.high or 0.0), 1e-300)
    has_range = told.low is not None and told.high is not None and told.low - slack <= told.mean <= told.high + slack
    # No numbers within a range are further from their mean, all together, than half of them at either end.
    reach = (1 + 1e-6) * ((told.high or 0.0) - (told.low or 0.0)) / 2 + slack
    if (
        told.count != finite
        or sum(told.bins) != finite
        or len(told.bins) != len(mine.counts)
        or told.out_of_schema > finite
        or (finite > 0) != has_range
        or told.squares > finite * reach**2
    ):
        raise BlobError("schema", f"the counts of feature {name!r} contradict one another")
    mine.rows, mine.missing, mine.not_finite = told.rows, told.missing, told.not_finite
    mine.out_of_schema = told.out_of_schema
    if told.low is not None and told.high is not None:
        mine.moments = Moments(told.count, told.mean, told.squares, told.low, told.high)
    mine.counts[:] = told.bins
    if told.quantiles is None:
        mine.quantiles = None if finite else mine.quantiles
        return
    kind, text = told.quantiles
    if kind == "kll" and not has_sketches():
        mine.quantiles = None  # nobody here can read them; bins and moments stand
        return
    try:
        told_quantiles = quantiles_from_bytes(kind, base64.b64decode(text, validate=True))
        if mine.quantiles is not None and mine.quantiles.kind == kind:
            mine.quantiles.merge(told_quantiles)  # refuses other bins
        else:
            mine.quantiles = told_quantiles
    except (ValueError, binascii.Error) as error:
        raise BlobError("schema", f"the quantiles of feature {name!r}: {error}") from error
    if mine.quantiles.count != finite:
        raise BlobError("schema", f"the quantiles of feature {name!r} are of another number of rows")


def _fill_category(name: str, mine: CategorySummary, told: _Category) -> None:
    named = told.rows - told.missing
    lows = sum(low for _, low, _ in told.items)
    is_in_order = all(low <= high <= named + told.blind for _, low, high in told.items)
    if (
        sum(told.bins) != named
        or len(told.bins) != len(mine.counts)
        or told.out_of_schema > named
        or lows > named
        or not is_in_order
    ):
        raise BlobError("schema", f"the counts of feature {name!r} contradict one another")
    mine.rows, mine.missing, mine.out_of_schema = told.rows, told.missing, told.out_of_schema
    mine.counts[:] = told.bins
    rows = [Item(item, low, high) for item, low, high in told.items]
    mine.items = told_items(rows, told.blind, use_sketches=has_sketches())

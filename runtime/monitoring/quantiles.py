"""Quantiles of a stream in bounded memory: KLL sketches of datasketches where installed, fixed histograms otherwise.

Both are mergeable and go through one contract test. A sketch of another process is bytes from outside: `kll_problem` checks
every invariant before the library sees them, because its own reader trusts them (a changed header ended the process with
SIGSEGV: datasketches 5.2, found by mutation in November 2026).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, Literal, Protocol

import numpy as np

from runtime.monitoring.discretion import coarse, coarse_range
from runtime.monitoring.moments import LARGEST, Numbers

KLL_K: Final = 200
"""A rank is off by at most 1.65 % with 99 % confidence (1.33 % for a single one); 5 KB after a million values."""
FIXED_BINS: Final = 256

_KLL_M: Final = 8
_FAMILY: Final = 15
_MAX_LEVELS: Final = 30
"""2^30 × 200 values: a window is far shorter."""
_EMPTY, _SORTED, _SINGLE = 1, 2, 4


class Quantiles(Protocol):
    """What a feature keeps to say its quantiles."""

    kind: Literal["kll", "fixed"]

    @property
    def count(self) -> int:
        """Values seen."""

    def update(self, finite: Numbers) -> None:
        """Takes a block of finite values."""

    def merge(self, other: Quantiles) -> None:
        """Takes what `other`, of the same kind, has seen; `ValueError` for another kind or other bins."""

    def at(self, ranks: Numbers) -> Numbers:
        """The values at `ranks` (0..1); only where something was seen."""

    def to_bytes(self, middle: float | None = None) -> bytes:
        """A form that `quantiles_from_bytes` reads; with `middle` single values in it are as coarse as `discretion` says."""


class KllQuantiles:
    """A KLL sketch; its error is in ranks, whatever the values are."""

    kind: Literal["kll", "fixed"] = "kll"

    def __init__(self, sketch: Any = None) -> None:
        if sketch is None:
            from datasketches import kll_doubles_sketch

            sketch = kll_doubles_sketch(KLL_K)
        self._sketch = sketch

    @property
    def count(self) -> int:
        """Values seen."""
        return int(self._sketch.n)

    @property
    def rank_error(self) -> float:
        """How far a rank may be off, with 99 % confidence."""
        return float(self._sketch.normalized_rank_error(True))

    def update(self, finite: Numbers) -> None:
        """Takes a block of finite values."""
        if finite.size:
            self._sketch.update(np.clip(finite, -LARGEST, LARGEST))

    def merge(self, other: Quantiles) -> None:
        """Takes what another KLL sketch has seen."""
        if not isinstance(other, KllQuantiles):
            raise ValueError(f"a {other.kind} sketch does not merge into a KLL sketch")
        self._sketch.merge(other._sketch)

    def at(self, ranks: Numbers) -> Numbers:
        """The values at `ranks`."""
        return np.asarray(self._sketch.get_quantiles(np.asarray(ranks, np.float64)), np.float64)

    def to_bytes(self, middle: float | None = None) -> bytes:
        """Datasketches' own serial form."""
        raw = bytes(self._sketch.serialize())
        return raw if middle is None else _coarse_kll(raw, middle)

    @classmethod
    def from_bytes(cls, raw: bytes) -> KllQuantiles:
        """The sketch in `raw`; `ValueError` says what is wrong with it."""
        problem = kll_problem(raw)
        if problem is not None:
            raise ValueError(f"no KLL sketch of k {KLL_K}: {problem}")
        from datasketches import kll_doubles_sketch

        return cls(kll_doubles_sketch.deserialize(raw))


class FixedQuantiles:
    """Counts in equal bins between two values chosen beforehand, and beyond; a quantile is right to a bin's width.

    Merging is exact.
    """

    kind: Literal["kll", "fixed"] = "fixed"

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._counts = np.zeros(FIXED_BINS + 2, np.int64)
        self._least, self._greatest = np.inf, -np.inf

    @property
    def count(self) -> int:
        """Values seen."""
        return int(self._counts.sum())

    @property
    def edges(self) -> Numbers:
        """Between the bins; the first and the last bin reach as far as values did."""
        return np.linspace(self._low, self._high, FIXED_BINS + 1)

    def update(self, finite: Numbers) -> None:
        """Takes a block of finite values."""
        if not finite.size:
            return
        finite = np.clip(finite, -LARGEST, LARGEST)
        places = np.searchsorted(self.edges, finite, side="right")
        self._counts += np.bincount(places, minlength=FIXED_BINS + 2)
        self._least = min(self._least, float(finite.min()))
        self._greatest = max(self._greatest, float(finite.max()))

    def merge(self, other: Quantiles) -> None:
        """Takes what a histogram of the same bins has seen."""
        if not isinstance(other, FixedQuantiles) or (other._low, other._high) != (self._low, self._high):
            raise ValueError("histograms of other bins do not merge")
        self._counts += other._counts
        self._least = min(self._least, other._least)
        self._greatest = max(self._greatest, other._greatest)

    def at(self, ranks: Numbers) -> Numbers:
        """The values at `ranks`, interpolated inside a bin."""
        edges = self.edges
        edges = np.concatenate([[min(self._least, edges[0])], edges, [max(self._greatest, edges[-1])]])
        reached = np.concatenate([[0.0], np.cumsum(self._counts)]) / max(self.count, 1)
        # Where several edges are reached at one rank (empty bins), the first is the value.
        places = np.clip(np.searchsorted(reached, ranks, side="left"), 1, len(edges) - 1)
        share = (np.asarray(ranks) - reached[places - 1]) / np.maximum(reached[places] - reached[places - 1], 1e-300)
        found = edges[places - 1] + np.clip(share, 0.0, 1.0) * (edges[places] - edges[places - 1])
        return np.clip(found, self._least, self._greatest)

    def to_bytes(self, middle: float | None = None) -> bytes:
        """Bounds, range, then the counts of the bins that are not empty."""
        places = np.flatnonzero(self._counts)
        least, greatest = self._least, self._greatest
        if middle is not None and len(places):
            least, greatest = coarse_range(least, greatest, middle)
        head = struct.pack("<4dI", self._low, self._high, least, greatest, len(places))
        return head + places.astype("<u2").tobytes() + self._counts[places].astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> FixedQuantiles:
        """The histogram in `raw`; `ValueError` says what is wrong with it."""
        if len(raw) < 36:
            raise ValueError(f"no histogram: {len(raw)} bytes")
        low, high, least, greatest, filled = struct.unpack_from("<4dI", raw)
        if (
            not (np.isfinite([low, high]).all() and low < high)
            or filled > FIXED_BINS + 2
            or len(raw) != 36 + 10 * filled
        ):
            raise ValueError("no histogram: its bounds or its length are wrong")
        made = cls(low, high)
        places = np.frombuffer(raw, "<u2", filled, 36).astype(np.int64)
        counts = np.frombuffer(raw, "<u8", filled, 36 + 2 * filled)
        if filled and (
            (np.diff(places) <= 0).any()
            or places[-1] >= FIXED_BINS + 2
            or (counts > 1 << 48).any()
            or not (np.isfinite([least, greatest]).all() and -LARGEST <= least <= greatest <= LARGEST)
        ):
            raise ValueError("no histogram: its counts or its range are wrong")
        made._counts[places] = counts.astype(np.int64)
        if filled:
            made._least, made._greatest = least, greatest
        return made


def make_quantiles(low: float, high: float, *, use_sketches: bool) -> Quantiles:
    """An empty one; `low` and `high` are where a fixed histogram has its bins."""
    return KllQuantiles() if use_sketches else FixedQuantiles(low, high)


def quantiles_from_bytes(kind: str, raw: bytes) -> Quantiles:
    """What `to_bytes` wrote; `ValueError` for anything else. Safe for bytes from anybody."""
    readers: dict[str, Callable[[bytes], Quantiles]] = {
        "kll": KllQuantiles.from_bytes,
        "fixed": FixedQuantiles.from_bytes,
    }
    if kind not in readers:
        raise ValueError(f"unknown kind of quantiles {kind[:20]!r}; known: {', '.join(readers)}")
    return readers[kind](raw)


def has_sketches() -> bool:
    """Whether datasketches is installed."""
    from importlib.util import find_spec

    return find_spec("datasketches") is not None


def kll_problem(raw: bytes) -> str | None:
    """What is wrong with `raw` as a KLL sketch of doubles as datasketches writes them; None: it may be read.

    Layout: https://datasketches.apache.org, `kll_sketch_impl.hpp`: preamble, levels, least and greatest, items.
    """
    if len(raw) < 8:
        return f"{len(raw)} bytes"
    ints, serial, family, flags, k, m, _ = struct.unpack_from("<4BH2B", raw)
    if (family, k, m) != (_FAMILY, KLL_K, _KLL_M):
        return f"family {family}, k {k}, m {m}"
    if flags & _EMPTY:
        return None if len(raw) == 8 and (ints, serial) == (2, 1) else "an empty one with something in it"
    if flags & _SINGLE:
        if len(raw) != 16 or (ints, serial) != (2, 2):
            return "a single value of another length"
        return _values_problem(np.frombuffer(raw, "<f8", 1, 8))
    if len(raw) < 20 or (ints, serial) != (5, 1):
        return f"preamble {ints}, serial version {serial}, {len(raw)} bytes"
    n, min_k, levels, _ = struct.unpack_from("<QH2B", raw, 8)
    if not 1 <= levels <= _MAX_LEVELS or not _KLL_M <= min_k <= KLL_K:
        return f"{levels} levels, min_k {min_k}"
    capacity = sum(_level_capacity(levels, height) for height in range(levels))
    if len(raw) < 20 + 4 * levels + 16:
        return "it is cut short"
    ends = [*struct.unpack_from(f"<{levels}I", raw, 20), capacity]
    if any(a > b for a, b in pairwise(ends)):
        return "its levels are out of order"
    retained = capacity - ends[0]
    at = 20 + 4 * levels
    if len(raw) != at + 16 + 8 * retained:
        return f"{len(raw)} bytes for {retained} items"
    if n != sum((ends[i + 1] - ends[i]) << i for i in range(levels)) or n < 1:
        return f"it claims {n} values, its items stand for another number"
    values = np.frombuffer(raw, "<f8", 2 + retained, at)
    for i in range(1, levels):
        level = values[2 + ends[i] - ends[0] : 2 + ends[i + 1] - ends[0]]
        if (np.diff(level) < 0).any():
            return "a level is not sorted"
    if flags & _SORTED and (np.diff(values[2 : 2 + ends[1] - ends[0]]) < 0).any():
        return "level 0 is not sorted, as it claims"
    if values[2:].min() < values[0] or values[2:].max() > values[1]:
        return "items lie outside its range"
    return _values_problem(values)


def _coarse_kll(raw: bytes, middle: float) -> bytes:
    """The same sketch with coarser values; the order that the library relies on stays."""
    flags = raw[3]
    if flags & _EMPTY:
        return raw
    at = 8 if flags & _SINGLE else 20 + 4 * raw[18]
    values = np.frombuffer(raw, "<f8", -1, at).tolist()
    told = coarse(values, middle)
    if not flags & _SINGLE:
        told[:2] = coarse_range(values[0], values[1], middle)
    return raw[:at] + np.array(told, "<f8").tobytes()


def _values_problem(values: Numbers) -> str | None:
    # NaN also breaks the order that the library's sort relies on.
    return None if (np.abs(values) <= LARGEST).all() else "a value is not finite, or beyond ±1e140"


def _level_capacity(levels: int, height: int) -> int:
    """Items that a level may hold: k shrinks by 2/3 a level, in datasketches' own integer arithmetic (depth up to 30)."""
    depth = levels - height - 1
    return max(_KLL_M, int(((((KLL_K << 1) << depth) // 3**depth) + 1) >> 1))

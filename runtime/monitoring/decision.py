"""Whether a model's rows still lie as they did: pure, block by block, with one budget of false alarms for everything.

Every look takes one block of rows, and asks the newest 1, 2, 4, ... 64 blocks against the reference and against the blocks
before them. When nothing changes, the chance that *any* feature, measure, stretch of blocks or look *ever* raises an alarm is
at most `alpha`: look k may spend alpha / (k (k + 1)), which adds up to alpha over all looks; a look shares that among its
stretches, references and measures (Bonferroni) and among the features (Holm 1979). It assumes that rows come independently of
each other; requests that repeat one row break it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from runtime.monitoring.layout import Kind
from runtime.monitoring.moments import Numbers
from runtime.monitoring.reference import Baseline
from runtime.monitoring.summary import Summary
from runtime.monitoring.tails import log_bins_tail, log_ks_tail, log_rank_tail, log_share_tail

STRETCHES: Final = (1, 2, 4, 8, 16, 32, 64)
MIN_ROWS: Final = 50
"""Of a stretch: below, nothing short of a broken upstream shows."""
MIN_SHIFT: Final = 0.02
"""Of the rows that must have changed bins (KS or total variation): any two data sets differ by less, and no harm."""
MIN_SHARE: Final = 0.005
"""By which the share of missing, not finite, out-of-schema or new values must have changed."""
LEAST_EXPECTED: Final = 30.0
"""Live rows a bin of χ² must expect: its tail at p = 10⁻⁸ holds there, and is too short at the usual 5."""
CLEAR_P: Final = 0.01
NEAR: Final = 6.0
"""Squared standard errors of a share, below which its exact tail is not worked out: e^-6 is far above any limit."""


class Against(StrEnum):
    """What live rows are compared with."""

    REFERENCE = "reference"
    BEFORE = "rows before"


class Measure(StrEnum):
    """What gave a finding away."""

    RANKS = "location and spread"
    KS = "ks"
    BINS = "chi2"
    SHARE = "share of a bin"
    """Of numbers, the outermost ones: values beyond any of the reference's are few where most rows have not changed."""
    MISSING = "missing"
    NOT_FINITE = "not finite"
    OUT_OF_SCHEMA = "out of schema"


_SHARES: Final = (Measure.MISSING, Measure.NOT_FINITE, Measure.OUT_OF_SCHEMA)
_ORDER: Final = (Measure.RANKS, Measure.KS, Measure.BINS, Measure.SHARE, *_SHARES)


@dataclass(frozen=True, slots=True)
class Finding:
    """A feature that changed, by more than chance and more than a trifle."""

    feature: str
    measure: Measure
    against: Against
    log_p: float
    """Natural logarithm; already for itself alone, the budget it was held to is `log_limit`."""
    log_limit: float
    blocks: int
    """Newest blocks that show it."""
    rows: int
    """In them."""
    shift: float
    """Share of rows that changed bins, or by which the share changed."""
    look: int
    since: float
    """When the first block began that looks changed."""
    first_seen: float
    """When the look ended that found it."""


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """How much is found, and how often wrongly."""

    alpha: float = 0.05
    """Chance that there is ever a false alarm of this model."""
    min_shift: float = MIN_SHIFT
    min_share: float = MIN_SHARE
    min_rows: int = MIN_ROWS


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of all features, counted."""

    bins: Numbers
    """[feature, bin]"""
    shares: Numbers
    """[feature, 3]: missing, not finite, out of schema."""
    rows: Numbers
    """[feature]"""
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class _Comparison:
    against: Against
    length: int
    live: Block
    reference: Block


class DriftTest:
    """Takes blocks, keeps the last 64, and says what it finds. Not thread-safe."""

    def __init__(self, baseline: Baseline, settings: DriftSettings = DriftSettings()) -> None:
        self.looks = 0
        self.rows = 0
        self.active: dict[str, Finding] = {}
        """By feature; leaves when the newest rows lie as the reference again."""
        self._last_found: dict[str, int] = {}
        self._settings = settings
        self._names = [feature.name for feature in baseline.features]
        self._is_number = np.array([feature.kind is Kind.NUMBER for feature in baseline.features], bool)
        self._last = np.array([max(len(r.counts) - 1, 0) for r in baseline.references], np.int64)
        self._reference = Block(
            padded([np.asarray(r.counts) for r in baseline.references]),
            np.array([[r.missing, r.not_finite, r.out_of_schema] for r in baseline.references], np.float64).reshape(
                -1, 3
            ),
            np.array([r.rows for r in baseline.references], np.float64),
        )
        self._blocks: deque[Block] = deque(maxlen=2 * STRETCHES[-1])
        self._sums: deque[Block] = deque([_nothing(self._reference)], maxlen=2 * STRETCHES[-1] + 1)
        """What was counted before the first block, and up to each: counts of a stretch are a difference of two."""

    def look(self, summary: Summary, began: float, ended: float) -> list[Finding]:
        """What is found now that was not active before; `began` and `ended` in the caller's clock, whichever it is."""
        features = [summary.features[name] for name in self._names]
        return self.look_at(
            Block(
                padded([feature.counts for feature in features]),
                np.array([[f.missing, f.not_finite, f.out_of_schema] for f in features], np.float64).reshape(-1, 3),
                np.array([feature.rows for feature in features], np.float64),
                began,
                ended,
            ),
            summary.rows,
        )

    def look_at(self, block: Block, rows: int) -> list[Finding]:
        """The same of rows that are counted already, features in the baseline's order."""
        if not rows or not self._names:
            return []
        if not self._place(block):
            return []
        self.looks += 1
        self.rows += rows
        known = set(self.active)
        for name, finding in self._find().items():
            before = self.active.get(name)
            self._last_found[name] = self.looks
            if before is None or finding.log_p < before.log_p:
                self.active[name] = finding if before is None else _with_times_of(before, finding)
            elif self._blocks[-1] is not block:
                # Rows of the past came late: they may show that it began before what was known then.
                self.active[name] = replace(before, since=min(before.since, finding.since))
        self._clear()
        return [finding for name, finding in self.active.items() if name not in known]

    def _place(self, block: Block) -> bool:
        """Puts a block where it was in time: one that comes days late is not the newest. False: older than all that are kept."""
        blocks = self._blocks
        later = 0
        while later < len(blocks) and blocks[-1 - later].ended > block.ended:
            later += 1
        if later and later == len(blocks) == blocks.maxlen:
            return False
        if not later:
            blocks.append(block)
            self._sums.append(_joined([self._sums[-1], block]))
            return True
        if len(blocks) == blocks.maxlen:
            blocks.popleft()
        blocks.insert(len(blocks) - later, block)
        self._sums = deque([_nothing(block)], maxlen=self._sums.maxlen)
        for one in blocks:
            self._sums.append(_joined([self._sums[-1], one]))
        return True

    def _find(self) -> dict[str, Finding]:
        comparisons = self._comparisons()
        spent = math.log(self._settings.alpha) - math.log(self.looks) - math.log(self.looks + 1)
        lengths = sum(length <= len(self._blocks) for length in STRETCHES)
        log_share = spent - math.log(lengths * len(Against) * len(_ORDER))
        stacked = [_stack([c.live for c in comparisons]), _stack([c.reference for c in comparisons])]
        tails, shifts = self._tails(*stacked)
        # Nearly always nothing is near any limit.
        if not any((tail <= log_share).any() for tail in tails):
            return {}
        best: dict[str, tuple[Finding, Block]] = {}
        for at, comparison in enumerate(comparisons):
            own = [tail[at] for tail in tails], [shift[at] for shift in shifts]
            for finding in self._judge(comparison, *own, log_share):
                known = best.get(finding.feature)
                if known is None or finding.log_p < known[0].log_p:
                    best[finding.feature] = finding, comparison.reference
        # Worked out for these alone: it costs more than the rest of a look.
        return {
            name: replace(finding, since=self._since(self._names.index(name), reference, finding.measure))
            for name, (finding, reference) in best.items()
        }

    def _comparisons(self) -> list[_Comparison]:
        found = []
        sums, count = self._sums, len(self._blocks)
        newest = sums[-1]
        for length in STRETCHES:
            if length > count:
                break
            before = sums[-1 - length]
            live = _difference(newest, before)
            found.append(_Comparison(Against.REFERENCE, length, live, self._reference))
            if count - length >= length:
                found.append(_Comparison(Against.BEFORE, length, live, _difference(before, sums[0])))
        return found

    def _judge(
        self, comparison: _Comparison, tails: list[Numbers], shifts: list[Numbers], log_share: float
    ) -> list[Finding]:
        """What of one comparison is beyond chance, by feature the most improbable; `since` is not worked out."""
        settings, count = self._settings, len(self._names)
        live, found = comparison.live, dict[int, Finding]()
        for at, measure in enumerate(_ORDER):
            least = settings.min_share if measure in _SHARES else settings.min_shift
            for place, feature in enumerate(np.argsort(tails[at], kind="stable").tolist()):
                limit = log_share - math.log(count - place)
                log_p, shift = float(tails[at][feature]), float(shifts[at][feature])
                if log_p > limit:
                    break  # Holm: once one is not improbable enough, none after it is
                known = found.get(feature)
                if shift < least or (known is not None and known.log_p <= log_p):
                    continue
                found[feature] = Finding(
                    feature=self._names[feature],
                    measure=measure,
                    against=comparison.against,
                    log_p=log_p,
                    log_limit=limit,
                    blocks=comparison.length,
                    rows=int(live.rows[feature]),
                    shift=shift,
                    look=self.looks,
                    since=math.nan,
                    first_seen=self._blocks[-1].ended,
                )
        return list(found.values())

    def _tails(self, live: Block, reference: Block) -> tuple[list[Numbers], list[Numbers]]:
        """For every measure log p and how much moved, [..., feature]."""
        n, m = live.bins.sum(axis=-1), reference.bins.sum(axis=-1)
        numbers = self._is_number
        with np.errstate(divide="ignore", invalid="ignore"):
            p = np.nan_to_num(reference.bins / m[..., None])
            q = np.nan_to_num(live.bins / n[..., None])
        apart = np.abs(np.cumsum(q - p, axis=-1)).max(axis=-1)
        moved = np.where(numbers, apart, np.abs(q - p).sum(axis=-1) / 2)
        tails = [
            np.where(numbers, log_rank_tail(live.bins, reference.bins), 0.0),
            np.where(numbers, log_ks_tail(apart, n, m), 0.0),
            log_bins_tail(live.bins, reference.bins, LEAST_EXPECTED),
            self._single_bins(live.bins, reference.bins),
        ]
        is_enough = (n >= self._settings.min_rows) & (m >= self._settings.min_rows)
        tails = [np.where(is_enough, tail, 0.0) for tail in tails]
        shifts = [moved] * len(tails)
        is_seen = (live.rows >= self._settings.min_rows) & (reference.rows >= self._settings.min_rows)
        for at in range(len(_SHARES)):
            a, b = live.shares[..., at], reference.shares[..., at]
            tails.append(np.where(is_seen, log_share_tail(a, live.rows, b, reference.rows), 0.0))
            shifts.append(np.abs(a / np.maximum(live.rows, 1) - b / np.maximum(reference.rows, 1)))
        return tails, shifts

    def _single_bins(self, live: Numbers, reference: Numbers) -> Numbers:
        """Log p of the category whose share changed most, held to as many as there are; of a number's outer bins, likewise."""
        result = np.zeros(live.shape[:-1])
        chosen = ~self._is_number
        if chosen.any():
            a, b = live[..., chosen, :], reference[..., chosen, :]
            used = (a + b > 0).sum(axis=-1)
            result[..., chosen] = _most_changed(a, b, a.sum(axis=-1), b.sum(axis=-1), used)
        if self._is_number.any():
            a, b = (self._outer(bins)[..., self._is_number, :] for bins in (live, reference))
            n, m = (bins[..., self._is_number, :].sum(axis=-1) for bins in (live, reference))
            result[..., self._is_number] = _most_changed(a, b, n, m, np.full(n.shape, a.shape[-1]))
        return result

    def _outer(self, bins: Numbers) -> Numbers:
        """[..., feature, 4]: below all of the reference, the lowest that it has, and the same at the upper end."""
        places = np.stack([np.maximum(self._last - step, 0) for step in (0, 1)], axis=-1)
        upper = np.take_along_axis(bins, np.broadcast_to(places, (*bins.shape[:-1], 2)), axis=-1)
        lower = bins[..., :2] if bins.shape[-1] > 1 else np.repeat(bins, 2, axis=-1)
        return np.concatenate([np.cumsum(lower, axis=-1), np.cumsum(upper, axis=-1)], axis=-1)

    def _since(self, feature: int, reference: Block, measure: Measure) -> float:
        """Where the rows from some block on are most unlike the reference: the best start of a log-likelihood ratio."""
        if measure in _SHARES:
            at = _SHARES.index(measure)
            counts = np.array([[b.shares[feature, at], b.rows[feature] - b.shares[feature, at]] for b in self._blocks])
            expected = np.array(
                [reference.shares[feature, at], reference.rows[feature] - reference.shares[feature, at]]
            )
        else:
            counts = np.array([block.bins[feature] for block in self._blocks])
            expected = reference.bins[feature]
        p = (expected + 0.5) / (expected.sum() + 0.5 * len(expected))
        totals = np.cumsum(counts[::-1], axis=0)
        q = (totals + 0.5) / (totals.sum(axis=1, keepdims=True) + 0.5 * len(p))
        gains = (totals * np.log(q / p)).sum(axis=1).tolist()
        best, length = -math.inf, 0
        for at, gain in enumerate(gains):
            # Half a logarithm a bin: what a longer stretch gains by chance alone.
            if gain > best + 1.0:
                best, length = gain, at
        return self._blocks[-1 - length].began

    def _clear(self) -> None:
        """Lets go of what is over: the newest rows (eight blocks) lie as the reference, or it was not found for long.

        A small shift is not over because few rows do not show it: less than half of what was found must be left.
        """
        if not self.active:
            return
        tails, shifts = self._tails(_joined(list(self._blocks)[-8:]), self._reference)
        for name, finding in list(self.active.items()):
            at = self._names.index(name)
            is_calm = min(float(tail[at]) for tail in tails) > math.log(CLEAR_P / len(_ORDER))
            left = float(shifts[_ORDER.index(finding.measure)][at])
            is_stale = self.looks - self._last_found[name] > STRETCHES[-1]
            if is_stale or (is_calm and left < finding.shift / 2):
                del self.active[name], self._last_found[name]


def padded(rows: Sequence[npt.NDArray[np.int64]]) -> Numbers:
    """Counts of each feature, [feature, bin]; zeros behind those that have fewer bins."""
    made = np.zeros((len(rows), max(map(len, rows), default=1)), np.float64)
    for at, row in enumerate(rows):
        made[at, : len(row)] = row
    return made


def _most_changed(hits: Numbers, reference_hits: Numbers, live: Numbers, reference: Numbers, tried: Numbers) -> Numbers:
    """Log p of the share [..., share] that changed most, held to the number that was `tried`."""
    n, m = live[..., None], reference[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (hits + reference_hits) / (n + m)
        error = share * (1 - share) * (1 / n + 1 / m)
        is_near = np.nan_to_num((hits / n - reference_hits / m) ** 2 / error) < NEAR
    # Where nothing was counted the tail is that of nobody hit: 1.
    a, b = (np.where(is_near, 0.0, part) for part in (hits, reference_hits))
    tails = log_share_tail(a, n, b, m)
    least: Numbers = np.minimum(tails.min(axis=-1) + np.log(np.maximum(tried, 1)), 0.0)
    return least


def _joined(blocks: list[Block]) -> Block:
    return Block(
        sum((b.bins for b in blocks[1:]), blocks[0].bins),
        sum((b.shares for b in blocks[1:]), blocks[0].shares),
        sum((b.rows for b in blocks[1:]), blocks[0].rows),
        blocks[0].began,
        blocks[-1].ended,
    )


def _difference(later: Block, earlier: Block) -> Block:
    return Block(later.bins - earlier.bins, later.shares - earlier.shares, later.rows - earlier.rows)


def _nothing(like: Block) -> Block:
    return Block(np.zeros_like(like.bins), np.zeros_like(like.shares), np.zeros_like(like.rows))


def _stack(blocks: list[Block]) -> Block:
    """[comparison, feature, ...]"""
    bins, shares, rows = (np.stack([getattr(b, name) for b in blocks]) for name in ("bins", "shares", "rows"))
    return Block(bins, shares, rows)


def _with_times_of(first: Finding, finding: Finding) -> Finding:
    return replace(finding, since=min(finding.since, first.since), first_seen=first.first_seen, look=first.look)

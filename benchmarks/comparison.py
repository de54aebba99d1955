"""Quantiles of B against A with their verdicts, and what a document of them says beside. Pure; `compare` measures and reads.

Samples come in blocks that know nothing of each other: rounds of an interleaved comparison, or runs. Those of one run do know of
each other, so one run a side has no verdict, however many its samples are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.failures import NO_ERRORS, Errors, told, why_not_judged
from benchmarks.samples import SCHEMA_VERSION
from benchmarks.significance import (
    LEAST_BLOCKS,
    Blocks,
    Interval,
    Judgement,
    Verdict,
    bootstrap_ratio,
    judge,
    mann_whitney,
)
from benchmarks.statistics import Values, needed_samples, percentile_name

SHARES = (0.5, 0.99)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantile of B against A."""

    what: str
    a: str
    b: str
    share: float
    a_ms: float
    b_ms: float
    n: tuple[int, int]
    """Requests answered."""
    errors: tuple[Errors, Errors]
    """Requests that failed, by code."""
    blocks: int
    """Rounds; or runs, of the side that has fewer."""
    ratio: Interval
    p_value: float | None
    """Mann-Whitney's; None for quantiles above the median, which their interval decides."""
    threshold: float
    judgement: Judgement

    @property
    def smallest_visible(self) -> float | None:
        """The smallest change, as a share, that this measurement would call one: beyond its interval, and beyond the threshold.

        None where it would call nothing a change, having too few blocks.
        """
        return max(self.threshold, self.ratio.reach) if self.blocks >= LEAST_BLOCKS else None

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        visible = self.smallest_visible
        return {
            "what": self.what,
            "a": self.a,
            "b": self.b,
            "quantile": percentile_name(self.share),
            "a_ms": self.a_ms,
            "b_ms": self.b_ms,
            "n": list(self.n),
            "errors": [dict(side) for side in self.errors],
            "blocks": self.blocks,
            "ratio": self.ratio.value,
            "low": self.ratio.low if np.isfinite(self.ratio.low) else None,
            "high": self.ratio.high if np.isfinite(self.ratio.high) else None,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "smallest_visible": None if visible is None or not np.isfinite(visible) else visible,
            "verdict": self.judgement.verdict.value,
            "reason": self.judgement.reason,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """Two settings compared by the whole rounds that were measured, or two folders by their runs."""

    comparisons: list[Comparison]
    rounds: int | None
    """Whole rounds of A/B/B/A; None of folders, which were measured at different times."""
    was_stopped: bool = False
    failed: str | None = None
    """What ended the measurement before its last round, where that was no person."""
    measured: Sequence[Mapping[str, Any]] = ()
    """Of each side and measurement that is compared: where and on what."""
    notes: Sequence[str] = ()
    """What is not compared, and what to mind of the rest; a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """All of it in types that `json` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "is_interleaved": self.rounds is not None,
            "rounds": self.rounds,
            "was_stopped": self.was_stopped,
            "failed": self.failed,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "notes": list(self.notes),
            "measured": list(self.measured),
        }


def compare_blocks(
    what: str,
    names: tuple[str, str],
    a: Sequence[Values],
    b: Sequence[Values],
    *,
    of: Blocks,
    threshold: float,
    errors: tuple[Errors, Errors] = NO_ERRORS,
) -> list[Comparison]:
    """The quantiles for which both sides have samples enough; latencies in milliseconds, in blocks, of requests answered."""
    all_a, all_b = np.concatenate(a), np.concatenate(b)
    n, blocks = (len(all_a), len(all_b)), min(len(a), len(b))
    comparisons = []
    for share in SHARES:
        if min(n) < needed_samples(share):
            continue
        ratio = bootstrap_ratio(a, b, share, is_paired=of is Blocks.ROUNDS)
        p_value = mann_whitney(all_a, all_b) if share <= 0.5 else None
        a_ms, b_ms = (float(np.quantile(side, share, method="inverted_cdf")) for side in (all_a, all_b))
        too_many = why_not_judged(share, n, errors)
        judgement = (
            judge(ratio, p_value, threshold, blocks, of)
            if too_many is None
            else Judgement(Verdict.INCONCLUSIVE, too_many)
        )
        comparisons.append(
            Comparison(what, *names, share, a_ms, b_ms, n, errors, blocks, ratio, p_value, threshold, judgement)
        )
    return comparisons


def too_few(what: str, answered: tuple[int, int], errors: tuple[Errors, Errors]) -> str:
    """The sentence for a cell of which not even the median can be told."""
    sides = "; ".join(f"{side} {told(n, failed)}" for side, n, failed in zip("AB", answered, errors, strict=True))
    step = "see to the errors first" if any(errors) else "measure longer (--duration) or more (--requests)"
    name, needed = percentile_name(SHARES[0]), needed_samples(SHARES[0])
    return f"{what} is not compared, too few samples: {sides}; {name} needs {needed} a side: {step}"


def differences(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each fact of machine or code in which the sides differ; of `Compared.measured`."""
    found = []
    for name, called in (("cpu", "processors"), ("kernel", "kernels"), ("python", "Pythons"), ("commit", "commits")):
        a, b = (
            {str(m["environment"].get(name) or "unknown") for m in measured if m["side"] == side} for side in ("A", "B")
        )
        if a != b:
            found.append(f"measured on different {called}: A {', '.join(sorted(a))}; B {', '.join(sorted(b))}")
    return found

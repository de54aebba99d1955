"""The rules that others decide by, on counts of a window or of everything so far; each returns where it rolled back.

Flagger (docs.flagger.app/usage/metrics, fluxcd.io/flagger): `request-success-rate` at least 99, `threshold: 5` failed checks
roll back, `maxWeight: 50` by `stepWeight: 10`, so five passed checks promote. Argo Rollouts (docs/features/analysis.md):
`successCondition: result[0] >= 0.95`, `failureLimit: 3`, here ten measurements. Both look at the canary's last window alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.releases.outcomes import NEVER, Ints, first_hits

WINDOW = 50
Z_95 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class WindowRule:
    """So many failed checks roll back, so many passed ones promote, whichever comes first."""

    name: str
    max_bad_share: float
    failures: int
    passes: int

    def apply(self, bad_by_window: Ints) -> tuple[Ints, Ints]:
        """Requests until each run was rolled back, and until it was promoted. `bad_by_window`: [run, window]."""
        failed = bad_by_window > self.max_bad_share * WINDOW + 1e-9
        failures, passes = np.cumsum(failed, 1), np.cumsum(~failed, 1)
        at = WINDOW * np.arange(1, failed.shape[1] + 1)
        back, on = first_hits(failures >= self.failures, at), first_hits(passes >= self.passes, at)
        is_back_first = (back != NEVER) & ((on == NEVER) | (back < on))
        return np.where(is_back_first, back, NEVER), np.where(is_back_first, NEVER, on)


def flagger(max_bad_share: float = 0.01) -> WindowRule:
    """Flagger with its documented thresholds, or another share of bad requests."""
    return WindowRule(f"Flagger, at most {max_bad_share:.2%} bad", max_bad_share, failures=5, passes=5)


def argo(max_bad_share: float = 0.05) -> WindowRule:
    """Argo Rollouts likewise: more than three failed measurements of ten."""
    return WindowRule(f"Argo, at most {max_bad_share:.2%} bad", max_bad_share, failures=4, passes=7)


def peeking_z(candidate: Ints, stable: Ints, at: Ints) -> Ints:
    """A one-sided z-test of two shares at 5 %, at every look, cumulative counts `[run, look]` of `at` requests each."""
    pooled = (candidate + stable) / (2 * at)
    error = np.sqrt(np.maximum(pooled * (1 - pooled) * 2 / at, 1e-12))
    return first_hits((candidate - stable) / at / error > Z_95, at)


def peeking_mcnemar(worse: Ints, better: Ints, at: Ints) -> Ints:
    """A one-sided McNemar z-test at 5 %, at every look."""
    return first_hits((worse - better) / np.sqrt(np.maximum(worse + better, 1)) > Z_95, at)


def peeking_non_inferiority(worse: Ints, better: Ints, at: Ints, margin: float) -> Ints:
    """A one-sided z-test at 5 % that the difference is under the margin, at every look."""
    mean = (worse - better) / at
    variance = np.maximum((worse + better) / at - mean**2, 1e-12)
    return first_hits((margin - mean) / np.sqrt(variance / at) > Z_95, at)

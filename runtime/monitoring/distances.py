"""How far apart two sets of counts lie, in the measures people know, and what each reaches by chance.

Counts are [bin], in order of size for the two that need an order (KS, Wasserstein). They say *how much*; whether it is more
than chance is decided in `decision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from runtime.monitoring.moments import Numbers

_FLOOR = 1e-4
"""A bin's share for PSI, which is infinite where one side is empty; the usual choice."""


@dataclass(frozen=True, slots=True)
class Distances:
    """Between the reference and live rows; 0: the same."""

    ks: float
    """Largest difference of the cumulative shares; 0..1. For categories, half the sum of the differences of shares."""
    psi: float
    """Population stability index; by custom 0.1 is some and 0.25 is much."""
    js: float
    """Jensen-Shannon distance (the square root, base 2); 0..1."""
    chi2: float
    """Pearson's statistic of the two rows of counts."""
    wasserstein: float | None
    """Between the deciles, in standard deviations of the reference; None where they are not known."""

    def to_dict(self) -> dict[str, float | None]:
        """As JSON."""
        return {name: None if value is None else round(value, 5) for name, value in asdict(self).items()}


def measure(
    reference: Numbers,
    live: Numbers,
    *,
    is_ordered: bool,
    deciles: tuple[Sequence[float] | Numbers | None, Sequence[float] | Numbers | None] = (None, None),
    std: float | None = None,
) -> Distances:
    """Of counts of the same bins; `deciles` and `std` of the reference give Wasserstein."""
    n, m = max(live.sum(), 1), max(reference.sum(), 1)
    p, q = reference / m, live / n
    both = reference + live
    expected = both * n / (n + m)
    used = both > 0
    chi2 = ((live - expected)[used] ** 2 * (1 / expected[used] + 1 / (both - expected)[used])).sum()
    ks = np.abs(np.cumsum(q - p)).max() if is_ordered else np.abs(q - p).sum() / 2
    return Distances(float(ks), psi(p, q), js(p, q), float(chi2), _wasserstein(*deciles, std))


def psi(p: Numbers, q: Numbers) -> float:
    """Of shares."""
    a, b = np.maximum(p, _FLOOR), np.maximum(q, _FLOOR)
    return float(((b - a) * np.log(b / a)).sum())


def js(p: Numbers, q: Numbers) -> float:
    """Of shares, as scipy.spatial.distance.jensenshannon(p, q, 2)."""
    middle = (p + q) / 2
    parts = [side * np.log2(np.divide(side, middle, out=np.ones_like(side), where=side > 0)) for side in (p, q)]
    return float(np.sqrt(max(sum(part.sum() for part in parts) / 2, 0.0)))


def by_chance(bins: int, live: int, reference: int) -> dict[str, float]:
    """The size that one comparison stays below 99 times of 100 when nothing changed.

    From χ² of `bins` - 1 degrees (Wilson-Hilferty): PSI is close to χ² (1/n + 1/m) (Yurdakul 2018), the squared Jensen-Shannon
    distance to an eighth of that, in bits; KS from Kolmogorov's law.
    """
    degrees = max(bins - 1, 1)
    chi2 = degrees * (1 - 2 / (9 * degrees) + 2.326 * (2 / (9 * degrees)) ** 0.5) ** 3
    spread = 1 / max(live, 1) + 1 / max(reference, 1)
    return {
        "ks": 1.628 * spread**0.5,
        "psi": chi2 * spread,
        "js": (chi2 * spread / 8 / np.log(2)) ** 0.5,
        "chi2": chi2,
    }


def _wasserstein(
    reference: Sequence[float] | Numbers | None, live: Sequence[float] | Numbers | None, std: float | None
) -> float | None:
    """By the nine inner tenths: the outermost values are single rows."""
    if reference is None or live is None or len(reference) != 11 or len(live) != 11 or not std:
        return None
    away = np.abs(np.asarray(live)[1:-1] - np.asarray(reference)[1:-1])
    return float(away.mean() / std)

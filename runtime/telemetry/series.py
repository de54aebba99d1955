"""Every metric as plain numbers over time: counters become rates, histograms quantiles, of the time since the last look. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import Buckets

QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
# Names that say the same number again, or one that does not change.
_LEFT_OUT: Final = frozenset({"process_start_time_seconds", "edgeward_backend_info"})


class Sampler:
    """Turns families into numbers by name, such as `edgeward_rows_total{model="digits"} per_s`. Used from one thread."""

    def __init__(self) -> None:
        self._before: dict[str, float | Buckets] = {}
        self._at: float | None = None

    def sample(self, families: Iterable[Family], now: float) -> dict[str, float]:
        """The numbers of the time since the last call, in which `now` (seconds) was less; of the first, the gauges alone.

        A histogram in which nothing was counted meanwhile has no quantiles: a gap, not a zero.
        """
        seen: dict[str, float | Buckets] = {}
        told: dict[str, float] = {}
        passed_s = None if self._at is None else max(now - self._at, 1e-3)
        for family in families:
            if family.name in _LEFT_OUT:
                continue
            for labels, value in family.samples:
                name = series_name(family.name, labels)
                if family.kind is Kind.GAUGE and not isinstance(value, Buckets):
                    told[name] = float(value)
                    continue
                seen[name] = value
                if passed_s is not None and (before := self._before.get(name)) is not None:
                    told.update(_since(name, before, value, passed_s))
        self._before, self._at = seen, now
        return told


def series_name(name: str, labels: Mapping[str, str]) -> str:
    """A metric with its labels, as Prometheus writes it."""
    words = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{words}}}" if words else name


def _since(name: str, before: float | Buckets, value: float | Buckets, passed_s: float) -> Iterator[tuple[str, float]]:
    if isinstance(value, Buckets) and isinstance(before, Buckets):
        came = value.since(before)
        yield f"{name} per_s", came.count / passed_s
        if not came.count:
            return
        yield f"{name} mean", came.sum / came.count
        # Inside a bucket of whole numbers, such as rows, a straight line would tell halves.
        for word, q in QUANTILES if "_seconds" in name else ():
            if (quantile := came.quantile(q)) is not None:
                yield f"{name} {word}", quantile
    elif not isinstance(value, Buckets) and not isinstance(before, Buckets):
        # A counter that fell began anew, as a model's does when it is loaded again.
        yield f"{name} per_s", (value - before if value >= before else value) / passed_s

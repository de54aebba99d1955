"""What several workers of one server counted, as one: totals and histograms added up, as `shared_statistics` does for models.

Gauges are left out: what waits in another worker now is not known, and that of one worker would jump from scrape to scrape.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runtime.serving.workers.shared_statistics import PUBLISH_EVERY_S
from runtime.telemetry.exposition import Family, Kind, Sample
from runtime.telemetry.histogram import Buckets

log = logging.getLogger(__name__)

_FAMILIES = TypeAdapter(list[Family])


class SharedMetrics:
    """The metrics of all workers whose files are in one folder; `own` is the name of this worker's file."""

    def __init__(self, folder: Path, own: str) -> None:
        self._folder = folder
        self._file = folder / f"{own}.metrics"

    def publish(self, families: Sequence[Family]) -> None:
        """Tells the others what this worker counted so far."""
        part = self._file.with_suffix(".metrics-part")
        part.write_bytes(_FAMILIES.dump_json(_counted(families)))
        part.replace(self._file)

    def tell(self, families: Sequence[Family]) -> None:
        """`publish`; where that cannot be, as when the folder went with a killed supervisor, a line in the log."""
        try:
            self.publish(families)
        except OSError as error:
            log.error("the other workers do not learn what this one counted: %s", error)

    def with_others(self, own: Sequence[Family]) -> list[Family]:
        """What can be added up of `own`, with the others' added; theirs is at most `PUBLISH_EVERY_S` old."""
        told = [_counted(own)]
        for file in sorted(self._folder.glob("*.metrics")):
            if file == self._file:
                continue
            try:
                told.append(_FAMILIES.validate_json(file.read_bytes()))
            except (OSError, ValidationError) as error:
                log.error("the metrics of another worker in %s cannot be read, and do not count: %s", file, error)
        return add_up(told)

    async def keep_publishing(self, read: Callable[[], Awaitable[Sequence[Family]]]) -> None:
        """Publishes what `read` says now and then, until cancelled."""
        while True:
            self.tell(await read())
            await asyncio.sleep(PUBLISH_EVERY_S)


def add_up(workers: Iterable[Sequence[Family]]) -> list[Family]:
    """One family for each name and one sample for each set of labels, in the order in which they are named first."""
    heads: dict[str, Family] = {}
    totals: dict[str, dict[frozenset[tuple[str, str]], Sample]] = {}
    for families in workers:
        for family in families:
            heads.setdefault(family.name, family)
            samples = totals.setdefault(family.name, {})
            for labels, value in family.samples:
                key = frozenset(labels.items())
                samples[key] = (labels, value if key not in samples else _sum(samples[key][1], value))
    return [Family(name, head.kind, head.text, list(totals[name].values())) for name, head in heads.items()]


def _counted(families: Iterable[Family]) -> list[Family]:
    return [family for family in families if family.kind is not Kind.GAUGE]


def _sum(one: float | Buckets, other: float | Buckets) -> float | Buckets:
    if isinstance(one, Buckets) and isinstance(other, Buckets):
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Buckets(one.bounds, counts, one.sum + other.sum)
    if isinstance(one, Buckets) or isinstance(other, Buckets):
        raise TypeError("one worker tells a histogram where another tells a number; they are of one program")
    return one + other

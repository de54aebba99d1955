"""What several workers of one server did, as one: each writes its totals to a file, and whoever is asked adds them up.

A worker that was started again writes another file, so what its predecessor did still counts and no counter goes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runtime.wire.statistics import BatchStatistics, ModelStatistics, Spent

log = logging.getLogger(__name__)

# What the others did is known this late at most; a small file twice a second costs nothing.
PUBLISH_EVERY_S = 0.5

_TOTALS = TypeAdapter(list[ModelStatistics])
_SPENT = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_COUNTS = ("inference_count", "execution_count", "rejected", "expired", "cancelled")


class SharedStatistics:
    """The totals of all workers whose files are in one folder; `own` is the name of this worker's file."""

    def __init__(self, folder: Path, own: str) -> None:
        self._folder = folder
        self._file = folder / f"{own}.json"
        self._last: bytes | None = None

    def publish(self, models: Sequence[ModelStatistics]) -> None:
        """Tells the others what this worker did so far."""
        told = _TOTALS.dump_json(list(models))
        if told == self._last:
            return
        part = self._file.with_suffix(".part")
        part.write_bytes(told)
        part.replace(self._file)
        self._last = told

    def tell(self, models: Sequence[ModelStatistics]) -> None:
        """`publish`; where that cannot be, as when the folder went with a killed supervisor, a line in the log."""
        try:
            self.publish(models)
        except OSError as error:
            log.error("the other workers do not learn what this one did: %s", error)

    def with_others(self, own: Sequence[ModelStatistics]) -> list[ModelStatistics]:
        """`own` with what the other workers did on the same versions added."""
        told: list[Sequence[ModelStatistics]] = [own]
        for file in sorted(self._folder.glob("*.json")):
            if file == self._file:
                continue
            try:
                told.append(_TOTALS.validate_json(file.read_bytes()))
            except (OSError, ValidationError) as error:
                log.error("the totals of another worker in %s cannot be read, and do not count: %s", file, error)
        known = {(model.name, model.version) for model in own}
        return [model for model in add_up(told) if (model.name, model.version) in known]

    async def keep_publishing(self, read: Callable[[], Sequence[ModelStatistics]]) -> None:
        """Publishes what `read` says now and then, until cancelled."""
        while True:
            self.tell(read())
            await asyncio.sleep(PUBLISH_EVERY_S)


def add_up(workers: Iterable[Sequence[ModelStatistics]]) -> list[ModelStatistics]:
    """One entry for each version that any worker names, in the order in which they are named first."""
    totals: dict[tuple[str, str], ModelStatistics] = {}
    for models in workers:
        for model in models:
            key = model.name, model.version
            totals[key] = model if key not in totals else _sum(totals[key], model)
    return list(totals.values())


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    summed: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    summed |= {name: _spent(getattr(one, name), getattr(other, name)) for name in _SPENT}
    last = max(one.last_inference_unix_ms, other.last_inference_unix_ms)
    return replace(one, last_inference_unix_ms=last, batches=_batches(one.batches, other.batches), **summed)


def _batches(one: Iterable[BatchStatistics], other: Iterable[BatchStatistics]) -> tuple[BatchStatistics, ...]:
    sizes = {batch.rows: batch for batch in one}
    for batch in other:
        if (known := sizes.get(batch.rows)) is not None:
            batch = BatchStatistics(
                batch.rows,
                _spent(known.compute_input, batch.compute_input),
                _spent(known.compute_infer, batch.compute_infer),
                _spent(known.compute_output, batch.compute_output),
            )
        sizes[batch.rows] = batch
    return tuple(sizes[rows] for rows in sorted(sizes))


def _spent(one: Spent, other: Spent) -> Spent:
    return Spent(one.count + other.count, one.ns + other.ns)

"""What the gateway that leads learns of a release from the database: labels, the app's metrics, and what other gateways saw.

Whichever gateway is told or sees it writes it down. The one that leads reads it from there and hands it to the guards, in
order, and how far it has read is kept in the same row as what the guards know: nothing counts twice, and nothing is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, Protocol

from cloud_gateway.guards import LabelledObservation, MetricObservation
from cloud_gateway.release.active import ActiveRelease
from cloud_gateway.release.report import PersonBeside
from cloud_gateway.release.seen import Seen
from cloud_gateway.release.store import Release
from runtime.errors import StorageError

# Rows that are read at once, and observations that are handed over before requests get their turn.
BATCH: Final = 500
SLICE: Final = 25


@dataclass(frozen=True, slots=True)
class LateRow:
    """One thing that was said."""

    number: int
    """In the order of saying; any two differ."""
    observation: LabelledObservation | MetricObservation | None = None
    """None: it says nothing of the release in question."""
    person: PersonBeside | None = None
    """What a person had said to the same request; for the report alone."""
    seen: Sequence[Seen] = ()
    """By another gateway, `SLICE` at most."""


class LateSource(Protocol):
    """A table of what was said. Blocking."""

    name: str

    def newest(self) -> int:
        """The number of the newest row; 0: there is none."""

    def read(self, release: Release, after: int, until: int, at_most: int) -> list[LateRow]:
        """Rows of the release's model behind `after` up to and with `until`, in order."""


class LateEvidence:
    """Reads the sources for the gateway that leads. Used on one event loop."""

    def __init__(self) -> None:
        self.sources: list[LateSource] = []
        self._seen: dict[tuple[int, str], int] = {}
        """The newest row of each release and source at the last look."""

    async def marks(self) -> dict[str, int]:
        """The newest row of each source: where a release that begins now starts to read, as nothing there can be about it."""
        newest, errors = await asyncio.to_thread(self._newest)
        if errors:
            raise errors[0]
        return newest

    async def hand_over(self, active: ActiveRelease) -> None:
        """Hands the guards what was there at the last look: by now the answers that it is about are written down as well.

        `StorageError` once all that can be read is handed over; what a source could not tell now it tells at a later look.
        """
        watch = active.evidence.watch
        newest, errors = await asyncio.to_thread(self._newest)
        for source in self.sources:
            if source.name not in newest:
                continue
            key = (active.release.id, source.name)
            until, self._seen[key] = self._seen.get(key, 0), newest[source.name]
            try:
                await self._hand_over_of(source, until, active)
            except StorageError as error:
                errors.append(error)
            if active.evidence.watch is not watch:
                break  # it was restored meanwhile, and is read on from where that was saved
        if errors:
            raise StorageError("; ".join(dict.fromkeys(map(str, errors)))) from errors[0]

    def _newest(self) -> tuple[dict[str, int], list[StorageError]]:
        """The newest row of each source that can be read, and what is wrong with the others. Blocking."""
        newest: dict[str, int] = {}
        errors: list[StorageError] = []
        for source in self.sources:
            try:
                newest[source.name] = source.newest()
            except StorageError as error:
                errors.append(error)
        return newest, errors

    async def _hand_over_of(self, source: LateSource, until: int, active: ActiveRelease) -> None:
        """The rows of one source up to and with `until`; no more of them once the release was restored."""
        watch = active.evidence.watch
        after = active.evidence.late_read.get(source.name, 0)
        while after < until:
            rows = await asyncio.to_thread(_read, source, active.release, after, until)
            for part in _parts(rows):
                if active.evidence.watch is not watch:
                    return
                said = [row.observation for row in part if row.observation is not None]
                people = [row.person for row in part if row.person is not None]
                seen = [one for row in part for one in row.seen]
                active.take_late(source.name, part[-1].number, said, people, seen)
                await asyncio.sleep(0)
            after = rows[-1].number if rows else until
        if active.evidence.watch is watch:
            active.evidence.late_read[source.name] = max(after, until)

    def forget(self, release: int) -> None:
        """The release has ended."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] != release}


def _read(source: LateSource, release: Release, after: int, until: int) -> list[LateRow]:
    """The next rows of a source; `StorageError` also where one says what nobody here understands. Blocking.

    What the guards could not take is found here, before they have taken half of it.
    """
    try:
        rows = source.read(release, after, until, BATCH)
        for row in rows:
            _check_numbers(row)
        return rows
    except (LookupError, TypeError, ValueError) as error:
        raise StorageError(
            f"a row of {source.name} behind number {after} cannot be read: {error!r}; it is damaged, or a later version of the "
            "gateway wrote it, and nothing behind it counts until this gateway is as new, or the row is gone"
        ) from error


def _check_numbers(row: LateRow) -> None:
    """SQLite keeps a text, or an infinite number, where a number was declared; what other gateways saw is checked as it is read."""
    said, person = row.observation, row.person
    numbers: list[float | None] = []
    if isinstance(said, MetricObservation):
        numbers = [float(said.value)]
    elif said is not None:
        numbers = [said.stable_loss, said.candidate_loss]
    if person is not None:
        numbers += [person.person_loss, person.stable_loss, person.candidate_loss]
    for number in numbers:
        if number is not None and not isfinite(number):
            raise ValueError(f"row {row.number} has the number {number!r}; expected a finite one")


def _parts(rows: Sequence[LateRow]) -> Iterator[list[LateRow]]:
    """Rows with `SLICE` observations together, or with what more the last one has."""
    part: list[LateRow] = []
    size = 0
    for row in rows:
        part.append(row)
        size += max(len(row.seen), 1)
        if size >= SLICE:
            yield part
            part, size = [], 0
    if part:
        yield part

"""Business metrics that the app reports for a release: each once, by its id, on disk before the app is told that it was taken."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, delete, func, select

from cloud_gateway.guards import Arm, MetricObservation
from cloud_gateway.release.late import LateRow
from cloud_gateway.release.store import Release
from cloud_gateway.release.tables import REPORTED, TABLES
from runtime.store import insert_new, reading, writing


@dataclass(frozen=True, slots=True)
class Report:
    """One metric as the app told it."""

    observation: MetricObservation
    id: str = ""
    """What it is known by when it is told again, together with its name; empty: it has none, and counts whenever it is told."""


class ReportedMetrics:
    """The table in a database that gateways may share: a `LateSource`. Blocking; threads may share it."""

    name = "metrics"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with writing(engine) as connection:
            TABLES.create_all(connection)

    def take(self, release: Release, reports: Sequence[Report]) -> int:
        """Keeps what was not told before; how many that are. What was told for a model's earlier releases goes."""
        model = release.plan.model
        rows = [
            {
                "model": model,
                "release": release.id,
                "name": report.observation.name,
                # No id of an app's is as long.
                "report": report.id or secrets.token_hex(64),
                "arm": str(report.observation.arm),
                "value": report.observation.value,
                "segment": report.observation.segment,
            }
            for report in reports
        ]
        with writing(self._engine) as connection:
            connection.execute(delete(REPORTED).where(REPORTED.c.model == model, REPORTED.c.release != release.id))
            counted = connection.execution_options(preserve_rowcount=True)
            return sum(counted.execute(insert_new(connection, REPORTED).values(row)).rowcount for row in rows)

    def newest(self) -> int:
        """The number of the newest row; 0: there is none."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.max(REPORTED.c.number))).scalar() or 0)

    def read(self, release: Release, after: int, until: int, at_most: int) -> list[LateRow]:
        """Rows of the release behind `after` up to and with `until`, in order."""
        query = (
            select(REPORTED)
            .where(REPORTED.c.release == release.id, REPORTED.c.number > after, REPORTED.c.number <= until)
            .order_by(REPORTED.c.number)
            .limit(at_most)
        )
        with reading(self._engine) as connection:
            return [
                LateRow(row.number, MetricObservation(Arm(row.arm), row.name, row.value, row.segment))
                for row in connection.execute(query)
            ]

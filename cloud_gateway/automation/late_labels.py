"""Labels for the guards of a release: those that came whole, beside what the arms said to their requests. A `LateSource`."""

from __future__ import annotations

from sqlalchemy import func, select

from cloud_gateway.automation.answers import loss
from cloud_gateway.automation.store import AutomationStore
from cloud_gateway.automation.tables import ARM_ANSWERS, SERVED, WHOLE_LABELS
from cloud_gateway.guards import Arm, LabelledObservation
from cloud_gateway.release.late import LateRow
from cloud_gateway.release.store import Release
from runtime.store import reading


class LateLabels:
    """Blocking, as the store is."""

    name = "labels"

    def __init__(self, store: AutomationStore) -> None:
        self._store = store

    def newest(self) -> int:
        """The number of the newest label; 0: there is none."""
        with reading(self._store.engine) as connection:
            return int(connection.execute(select(func.max(WHOLE_LABELS.c.number))).scalar() or 0)

    def read(self, release: Release, after: int, until: int, at_most: int) -> list[LateRow]:
        """Labels of the release's model behind `after` up to and with `until`, with the losses of its arms."""
        model = release.plan.model
        labels = (
            select(WHOLE_LABELS.c.number, WHOLE_LABELS.c.request_id, SERVED.c.label)
            .join(SERVED, (SERVED.c.model == WHOLE_LABELS.c.model) & (SERVED.c.request_id == WHOLE_LABELS.c.request_id))
            .where(WHOLE_LABELS.c.model == model, WHOLE_LABELS.c.number > after, WHOLE_LABELS.c.number <= until)
            .order_by(WHOLE_LABELS.c.number)
            .limit(at_most)
        )
        settings = self._store.settings.get(model)
        tolerance = 0.0 if settings is None else settings.tolerance
        with reading(self._store.engine) as connection:
            found = connection.execute(labels).all()
            answers = connection.execute(
                select(ARM_ANSWERS).where(
                    ARM_ANSWERS.c.model == model,
                    ARM_ANSWERS.c.release == release.id,
                    ARM_ANSWERS.c.request_id.in_([row.request_id for row in found]),
                )
            ).all()
        truths = {row.request_id: row.label for row in found}
        losses: dict[str, dict[str, float | None]] = {}
        segments: dict[str, str] = {}
        for row in answers:
            losses.setdefault(row.request_id, {})[row.arm] = loss(row.answer, truths[row.request_id], tolerance)
            segments[row.request_id] = row.segment
        return [
            LateRow(row.number, _observation(losses.get(row.request_id), segments.get(row.request_id, "")))
            for row in found
        ]


def _observation(losses: dict[str, float | None] | None, segment: str) -> LabelledObservation | None:
    if not losses:
        return None
    return LabelledObservation(losses.get(Arm.STABLE), losses.get(Arm.CANDIDATE), segment)

"""Labels for the guards of a release: those that came whole, beside what the arms said to their requests. A `LateSource`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select

from cloud_gateway.automation.answers import Answer, compared, loss
from cloud_gateway.automation.queue import Why
from cloud_gateway.automation.store import AutomationStore
from cloud_gateway.automation.tables import ARM_ANSWERS, ITEMS, OPINIONS, SERVED, WHOLE_LABELS
from cloud_gateway.guards import Arm, LabelledObservation
from cloud_gateway.release.late import LateRow
from cloud_gateway.release.report import PersonBeside
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
            names = [row.request_id for row in found]
            answers = connection.execute(
                select(ARM_ANSWERS).where(
                    ARM_ANSWERS.c.model == model,
                    ARM_ANSWERS.c.release == release.id,
                    ARM_ANSWERS.c.request_id.in_(names),
                )
            ).all()
            people = connection.execute(_PEOPLE.where(ITEMS.c.model == model, ITEMS.c.request_id.in_(names))).all()
        arms: dict[str, dict[str, Any]] = {}
        for row in answers:
            arms.setdefault(row.request_id, {})[row.arm] = row
        said = {row.request_id: row.answer for row in people}
        return [_row(row, arms.get(row.request_id, {}), said.get(row.request_id), tolerance) for row in found]


# Who saw no suggestion, asked for no reason that has to do with the model's answer, and was the first to answer.
_PEOPLE: Final = (
    select(ITEMS.c.request_id, OPINIONS.c.answer)
    .join(OPINIONS, ITEMS.c.id == OPINIONS.c.item)
    .where(OPINIONS.c.number == 1, ITEMS.c.is_blind, ITEMS.c.why != Why.LOW_CONFIDENCE)
)


def _row(label: Any, arms: Mapping[str, Any], person: Answer, tolerance: float) -> LateRow:
    """`arms`: rows of answers by arm. `person`: a person's answer; None: there is none."""
    if not arms:
        return LateRow(label.number, None)
    losses = {arm: loss(row.answer, label.label, tolerance) for arm, row in arms.items()}
    stable, candidate = losses.get(Arm.STABLE), losses.get(Arm.CANDIDATE)
    seen = LabelledObservation(stable, candidate, next(iter(arms.values())).segment)
    person_loss = None if person is None else loss(person, label.label, tolerance)
    if person_loss is None:
        return LateRow(label.number, seen)
    differing: tuple[tuple[str, str], ...] = ()
    if Arm.CANDIDATE in arms:
        rows = compared(arms[Arm.CANDIDATE].answer, person, tolerance)
        differing = tuple((row.truth, row.said) for row in rows if not row.is_right)
    return LateRow(label.number, seen, PersonBeside(person_loss, stable, candidate, differing))

"""Rollouts in the gateway's database: each step is one transaction and one line of the audit log, whichever gateway takes it.

Blocking; an event loop calls this on a thread. A report locks its rollout's row first and the log's head after it, so two
gateways on one database follow one another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_gateway.guards.verdict import Action
from cloud_gateway.guards.waves import WavePlan, WaveWatch
from cloud_gateway.rollout.gate import next_devices
from cloud_gateway.rollout.tables import FLEET, GIVEN, ROLLOUTS, TABLES
from runtime.errors import ConflictError, ModelNotFoundError
from runtime.store import reading, writing

log = logging.getLogger(__name__)

# A device that has not asked for so long is no part of the fleet, and one that got the version and fell silent holds no place in
# its wave: others take it.
FLEET_AGE_S: Final = 86_400.0
# How exactly it is known when a device asked last; a fleet that asks every few seconds must not write each time.
NOTE_EVERY_S: Final = 300.0
MOST_REASON_CHARACTERS: Final = 500

Note = Callable[[Connection, str, str, Mapping[str, Any]], object]
"""Writes a line of the audit log in the caller's transaction: event, model, document."""


class Outcome(StrEnum):
    """What became of a version on a device."""

    KEPT = "kept"
    REJECTED = "rejected"
    """It failed its check there and never served."""
    ROLLED_BACK = "rolled_back"
    """It did not load."""
    CRASHED = "crashed"
    """The agent ended twice while it was on trial."""


class RolloutStatus(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    HALTED = "halted"
    """Every device is offered what it had before."""
    DONE = "done"
    SUPERSEDED = "superseded"
    """A later release of the model was promoted."""


RULING: Final = (RolloutStatus.RUNNING, RolloutStatus.HALTED)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a release that was promoted says of its waves."""

    release: int
    model: str
    stable: int
    candidate: int
    shares: tuple[float, ...]
    """Of the fleet, rising to 1; none: all devices at once."""
    tolerated: float
    alpha: float


class RolloutStore:
    """The tables of one database. Threads may share it."""

    def __init__(self, engine: Engine, note: Note, unix_s: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._note = note
        self._unix_s = unix_s
        with writing(engine) as connection:
            TABLES.create_all(connection)

    def lock_in(self, connection: Connection, model: str) -> None:
        """Takes the row that `begin_in` may change before its caller takes the log's head: the order that reports have too."""
        connection.execute(_ruling(model).with_for_update()).all()

    def begin_in(self, connection: Connection, promoted: Promoted) -> None:
        """Within the transaction that promotes: its waves take the place of those of the model's earlier releases.

        Devices go on having what they were offered until then: not a version whose own rollout never came to its end.
        """
        ruling = connection.execute(_ruling(promoted.model).with_for_update()).first()
        base = promoted.stable if ruling is None else ruling.base
        if ruling is not None:
            self._close(connection, ruling, RolloutStatus.SUPERSEDED, f"release {promoted.release} was promoted")
        if not promoted.shares:
            return
        plan = {"shares": list(promoted.shares), "tolerated": promoted.tolerated, "alpha": promoted.alpha}
        watch = WaveWatch(_plan(plan), max(self._fleet_size(connection, promoted.model), 1))
        reason = f"wave 1 begins: {watch.allowed} of {watch.devices} devices"
        connection.execute(
            insert(ROLLOUTS).values(
                release=promoted.release,
                model=promoted.model,
                base=base,
                candidate=promoted.candidate,
                plan=plan,
                watch=watch.to_state(),
                status=str(RolloutStatus.RUNNING),
                reason=reason,
            )
        )
        self._tell(connection, "waves_begin", promoted.model, promoted.release, watch, reason)

    def offered(self, device: str, models: Collection[str]) -> dict[str, int]:
        """Model → the version that `device` may have, for models whose rollout decides that; the others have none.

        `models`: those that the device keeps current. One without a name gets what was there before, until it is done.
        """
        now = self._unix_s()
        with reading(self._engine) as connection:
            is_known = not device or not models or self._is_noted(connection, device, models, now)
            ruling = connection.execute(_ruling()).all()
            found = {row.model: row.base for row in ruling}
            places = {row.model: self._place(connection, row, device, now) for row in ruling if row.model in models}
        if device and (not is_known or any(place is _Place.NEXT for place in places.values())):
            with writing(self._engine) as connection:
                self._note_seen(connection, device, models, now)
                for row in connection.execute(_ruling().with_for_update()).all():
                    if row.model in models:
                        places[row.model] = self._give(connection, row, device, now)
        has = {model for model, place in places.items() if place is _Place.GIVEN}
        return found | {row.model: row.candidate for row in ruling if row.model in has}

    def versions(self) -> set[tuple[str, int]]:
        """Every model and version that some device may have by a rollout."""
        with reading(self._engine) as connection:
            rows = connection.execute(_ruling()).all()
        return {(row.model, version) for row in rows for version in (row.base, row.candidate)}

    def report(self, device: str, model: str, version: int, outcome: Outcome, reason: str) -> bool:
        """Takes in what became of a version on a device; whether it counted: of a device that has it, once."""
        with writing(self._engine) as connection:
            row = connection.execute(_ruling(model).with_for_update()).first()
            if row is None or row.candidate != version:
                return False
            changed = connection.execute(
                update(GIVEN)
                .where(GIVEN.c.release == row.release, GIVEN.c.device == device, GIVEN.c.outcome.is_(None))
                .values(outcome=str(outcome), reason=reason[:MOST_REASON_CHARACTERS])
            )
            if changed.rowcount != 1:
                return False
            if row.status == RolloutStatus.RUNNING:
                place = None if outcome is Outcome.KEPT else _place_of(connection, row.release, device)
                self._learn(connection, row, place)
            return True

    def halt(self, model: str, why: str) -> None:
        """A person stops it: every device is offered what was there before."""
        with writing(self._engine) as connection:
            row = self._running(connection, model)
            self._close(connection, row, RolloutStatus.HALTED, f"halted by hand{_because(why)}")

    def finish(self, model: str, why: str) -> None:
        """A person gives it to all devices at once, whatever the waves say, also after a halt."""
        with writing(self._engine) as connection:
            row = connection.execute(_ruling(model).with_for_update()).first()
            if row is None:
                raise _none(model)
            self._close(connection, row, RolloutStatus.DONE, f"given to all devices by hand{_because(why)}")

    def describe(self, release: int) -> dict[str, Any] | None:
        """How a release's waves stand; None where it has none."""
        with reading(self._engine) as connection:
            row = connection.execute(select(ROLLOUTS).where(ROLLOUTS.c.release == release)).first()
            if row is None:
                return None
            counted = select(GIVEN.c.outcome, func.count()).where(GIVEN.c.release == release).group_by(GIVEN.c.outcome)
            by_outcome: dict[str | None, int] = {one[0]: int(one[1]) for one in connection.execute(counted)}
            watch = self._watch(connection, row)
        return {
            "status": row.status,
            "wave": watch.wave + 1,
            "percent": [100 * share for share in watch.plan.shares],
            "devices": watch.devices,
            "allowed": watch.allowed,
            "given": sum(by_outcome.values()),
            "outcomes": {str(one): by_outcome[one] for one in Outcome if one in by_outcome},
            "devices_before": row.base,
            "reason": row.reason,
        }

    def _learn(self, connection: Connection, row: Row[Any], failed_at: int | None) -> None:
        """`failed_at`: of a device that failed, its place among those that got the version; None: it was kept."""
        watch = self._watch(connection, row)
        if failed_at is None:
            watch.observe_kept()
        else:
            watch.observe_failure(failed_at)
        was_last, decision = watch.is_last_wave, watch.decide()
        while decision.action is Action.ADVANCE and not was_last:
            self._tell(connection, "waves_advance", row.model, row.release, watch, decision.reason)
            was_last, decision = watch.is_last_wave, watch.decide()
        values = {"watch": watch.to_state(), "reason": decision.reason}
        connection.execute(update(ROLLOUTS).where(ROLLOUTS.c.release == row.release).values(**values))
        if decision.action is Action.ROLLBACK:
            self._close(connection, row, RolloutStatus.HALTED, decision.reason, watch)
        elif decision.action is Action.ADVANCE:
            self._close(connection, row, RolloutStatus.DONE, decision.reason, watch)

    def _place(self, connection: Connection, row: Row[Any], device: str, now: float) -> _Place:
        """Where a device stands in a rollout."""
        if row.status != RolloutStatus.RUNNING or not device:
            return _Place.WAITING
        of_release = GIVEN.c.release == row.release
        if connection.execute(select(GIVEN.c.device).where(of_release, GIVEN.c.device == device)).first() is not None:
            return _Place.GIVEN
        watch = self._watch(connection, row)
        if watch.is_last_wave:
            return _Place.NEXT
        is_held = or_(GIVEN.c.outcome.is_not(None), GIVEN.c.given_s > now - FLEET_AGE_S)
        held = int(connection.execute(select(func.count()).where(of_release, is_held)).scalar() or 0)
        if watch.allowed <= held:
            return _Place.WAITING
        has = select(GIVEN.c.device).where(of_release)
        asking = select(FLEET.c.device).where(
            FLEET.c.model == row.model, FLEET.c.seen_s > now - FLEET_AGE_S, FLEET.c.device.not_in(has)
        )
        waiting = {device, *connection.execute(asking).scalars()}
        is_next = device in next_devices(row.release, waiting, watch.allowed - held)
        return _Place.NEXT if is_next else _Place.WAITING

    def _give(self, connection: Connection, row: Row[Any], device: str, now: float) -> _Place:
        place = self._place(connection, row, device, now)
        if place is not _Place.NEXT:
            return place
        connection.execute(insert(GIVEN).values(release=row.release, device=device, given_s=now, reason=""))
        return _Place.GIVEN

    def _watch(self, connection: Connection, row: Row[Any]) -> WaveWatch:
        """With the fleet as it is now, but for one that has fewer devices than have reported."""
        watch = WaveWatch.from_state(_plan(row.plan), row.watch)
        if row.status == RolloutStatus.RUNNING:
            watch.devices = max(self._fleet_size(connection, row.model), watch.reported, 1)
        return watch

    def _fleet_size(self, connection: Connection, model: str) -> int:
        after = self._unix_s() - FLEET_AGE_S
        query = select(func.count()).where(FLEET.c.model == model, FLEET.c.seen_s > after)
        return int(connection.execute(query).scalar() or 0)

    def _is_noted(self, connection: Connection, device: str, models: Collection[str], now: float) -> bool:
        query = select(func.count()).where(
            FLEET.c.device == device, FLEET.c.model.in_(list(models)), FLEET.c.seen_s > now - NOTE_EVERY_S
        )
        return int(connection.execute(query).scalar() or 0) == len(set(models))

    def _note_seen(self, connection: Connection, device: str, models: Collection[str], now: float) -> None:
        for model in set(models):
            # As one statement: another gateway may hear of the same device at this moment.
            insert_ = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            made = insert_(FLEET).values(model=model, device=device, seen_s=now)
            connection.execute(made.on_conflict_do_update(index_elements=["model", "device"], set_={"seen_s": now}))
        connection.execute(delete(FLEET).where(FLEET.c.seen_s < now - 2 * FLEET_AGE_S))

    def _running(self, connection: Connection, model: str) -> Row[Any]:
        row = connection.execute(_ruling(model).with_for_update()).first()
        if row is None:
            raise _none(model)
        if row.status != RolloutStatus.RUNNING:
            raise ConflictError(f"the waves of {model!r} are {row.status} already: {row.reason}")
        return row

    def _close(
        self,
        connection: Connection,
        row: Row[Any],
        status: RolloutStatus,
        reason: str,
        watch: WaveWatch | None = None,
    ) -> None:
        values = {"status": str(status), "reason": reason}
        connection.execute(update(ROLLOUTS).where(ROLLOUTS.c.release == row.release).values(**values))
        now = watch or self._watch(connection, row)
        self._tell(connection, f"waves_{status}", row.model, row.release, now, reason)

    def _tell(
        self, connection: Connection, event: str, model: str, release: int, watch: WaveWatch, reason: str
    ) -> None:
        document = {"release": release, "reason": reason, "wave": watch.wave + 1, "allowed": watch.allowed}
        counts = {"devices": watch.devices, "reported": watch.reported, "failed": watch.failed}
        self._note(connection, event, model, document | counts)
        level = logging.WARNING if event == f"waves_{RolloutStatus.HALTED}" else logging.INFO
        log.log(level, "devices of %s: %s: %s", model, event.removeprefix("waves_"), reason)


class _Place(StrEnum):
    """Where a device stands: it has been given the version, it is to be, or it waits."""

    GIVEN = "given"
    NEXT = "next"
    WAITING = "waiting"


def _ruling(model: str | None = None) -> Any:
    query = select(ROLLOUTS).where(ROLLOUTS.c.status.in_(RULING))
    return query if model is None else query.where(ROLLOUTS.c.model == model)


def _place_of(connection: Connection, release: int, device: str) -> int:
    """Which a device is of those that got a release's version, in that order, counted from 1."""
    own = select(GIVEN.c.given_s).where(GIVEN.c.release == release, GIVEN.c.device == device).scalar_subquery()
    is_before = or_(GIVEN.c.given_s < own, and_(GIVEN.c.given_s == own, GIVEN.c.device <= device))
    counted = select(func.count()).where(GIVEN.c.release == release, is_before)
    return int(connection.execute(counted).scalar() or 1)


def _plan(told: Mapping[str, Any]) -> WavePlan:
    return WavePlan(tuple(told["shares"]), told["tolerated"], told["alpha"])


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _none(model: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"no version of model {model!r} goes to devices in waves; a plan asks for that with waves = [1, 5, 25, 100]"
    )

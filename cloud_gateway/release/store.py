"""Releases in a database: each change is one transaction, and one line of the audit log in the same one.

Blocking; an event loop calls this on a thread. Every change takes the log's head row first, so that changes of several gateways
follow one another on PostgreSQL as they do on SQLite.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Label, LargeBinary, Select, cast, delete, insert, select, update

from cloud_gateway.release.chain import GENESIS, AuditLine, first_break, next_line
from cloud_gateway.release.lease import Claim, LeaseRow, Seen, claim
from cloud_gateway.release.plan import ReleasePlan
from cloud_gateway.release.state import ReleaseState, Status
from cloud_gateway.release.tables import AUDIT, AUDIT_HEAD, CURRENT, IS_ALIVE, LEASE, LEASES, RELEASES, TABLES, TRAFFIC
from cloud_gateway.rollout.store import Promoted, RolloutStore
from runtime.errors import ConflictError, ModelNotFoundError, StorageError
from runtime.store import Changes, announce, reading, writing

DECIDED: Final = "decided_unix_us"
"""In the log: when a change was written, just before its commit; of a step back, which comes first, when traffic moved."""
TRAFFIC_SOURCE: Final = "traffic"
"""The name by which evidence says how much of `release_traffic` is in it."""
_CHANNEL: Final = "edgeward_releases"


@dataclass(frozen=True, slots=True)
class Release:
    """A release as the database has it."""

    id: int
    plan: ReleasePlan
    state: ReleaseState
    evidence: Mapping[str, Any]
    """What its guards and counts knew when they were last saved."""
    began_unix_ms: int
    changed_unix_ms: int
    line: int = 0
    """Of the audit log: that of its last change, where this gateway made it; 0: it was read."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A release in the database that this gateway cannot read: a later version of the gateway wrote it, or it is damaged."""

    id: int
    model: str
    status: str
    why: str


@dataclass(frozen=True, slots=True)
class Look:
    """What the database says."""

    line: int
    """Number of the log's last line: what follows holds at least as of it."""
    current: dict[str, int]
    """Model → the version that releases made the one to serve."""
    alive: dict[str, Release]
    """Those that run, by model."""
    unreadable: dict[str, Unreadable]
    """Those that run, and cannot be read, by model."""


class ReleaseStore:
    """The tables of one database, for one gateway. Threads may share it."""

    def __init__(self, engine: Engine, me: str, unix_s: Callable[[], float] = time.time) -> None:
        """`me`: this gateway's name, unlike any other's, as the lease and the log have it."""
        self.engine = engine
        """For tables beside these."""
        self.me = me
        self._unix_s = unix_s
        self.rollouts = RolloutStore(engine, self.note_in, unix_s)
        """Of versions that went to the devices after their release."""
        with writing(engine) as connection:
            TABLES.create_all(connection)
            if connection.execute(select(AUDIT_HEAD.c.id)).first() is None:
                connection.execute(insert(AUDIT_HEAD).values(id=1, number=0, hash=GENESIS))

    def close(self) -> None:
        """Closes the connections."""
        self.engine.dispose()

    def changes(self) -> Changes:
        """What tells a gateway that follows to look: at every change of a release, and on SQLite at any other commit too."""
        return Changes(self.engine, _CHANNEL)

    def start(self, plan: ReleasePlan, state: ReleaseState) -> Release:
        """A new release; `ConflictError` when its model has one already, or another gateway leads."""
        with writing(self.engine) as connection:
            head = self._lock(connection)
            alive = connection.execute(
                select(RELEASES.c.id, RELEASES.c.status).where(RELEASES.c.model == plan.model, IS_ALIVE)
            ).first()
            if alive is not None:
                raise ConflictError(
                    f"model {plan.model!r} has a release already: number {alive.id}, {alive.status}; wait for its end, or "
                    f"end it with: edgeward release abort {plan.model}"
                )
            now = self._unix_ms()
            made = connection.execute(
                insert(RELEASES).values(
                    model=plan.model,
                    plan=plan.model_dump_json(),
                    evidence="{}",
                    began_unix_ms=now,
                    changed_unix_ms=now,
                    **_columns(state),
                )
            )
            key = made.inserted_primary_key
            assert key is not None, "one row was inserted"
            number = int(key[0])
            self._pin(connection, plan, state)
            told = {"release": number, DECIDED: self.unix_us(), "plan": plan.model_dump(mode="json"), **_columns(state)}
            line = self._append(connection, head, "start", plan.model, told)
            announce(connection, _CHANNEL)
        return Release(number, plan, state, {}, now, now, line.number)

    def change(
        self,
        release: Release,
        state: ReleaseState,
        event: str,
        document: Mapping[str, Any],
        evidence: Mapping[str, Any],
    ) -> Release:
        """The release in another state, and the line that says why; `ConflictError` when it moved meanwhile, or another leads."""
        is_promoted = state.status is Status.PROMOTED
        with writing(self.engine) as connection:
            if is_promoted:
                self.rollouts.lock_in(connection, release.plan.model)
            head = self._lock(connection)
            now = self._unix_ms()
            changed = connection.execute(
                update(RELEASES)
                .where(RELEASES.c.id == release.id, IS_ALIVE)
                .values(evidence=json.dumps(evidence), changed_unix_ms=now, **_columns(state))
            )
            if changed.rowcount != 1:
                raise ConflictError(
                    f"release {release.id} of {release.plan.model!r} has ended meanwhile; look at its status"
                )
            self._pin(connection, release.plan, state)
            told = {"release": release.id, DECIDED: self.unix_us(), **_columns(state), **document}
            line = self._append(connection, head, event, release.plan.model, told)
            _drop_traffic(connection, release.id, evidence if state.status.is_alive else None)
            announce(connection, _CHANNEL)
            if is_promoted:
                self.rollouts.begin_in(connection, _promoted(release))
        return Release(release.id, release.plan, state, evidence, release.began_unix_ms, now, line.number)

    def save(self, release: Release, state: ReleaseState, evidence: Mapping[str, Any]) -> None:
        """Keeps what is known by now; no change of the release, so no line in the log."""
        with writing(self.engine) as connection:
            self._require_lease(connection)
            connection.execute(
                update(RELEASES)
                .where(RELEASES.c.id == release.id, RELEASES.c.status == state.status)
                .values(evidence=json.dumps(evidence), in_stage_s=state.in_stage_s, reason=state.reason)
            )
            _drop_traffic(connection, release.id, evidence)

    def note(self, event: str, model: str, document: Mapping[str, Any]) -> AuditLine:
        """A line of the log for a change that lies elsewhere; whoever leads."""
        with writing(self.engine) as connection:
            return self.note_in(connection, event, model, document)

    def note_in(self, connection: Connection, event: str, model: str, document: Mapping[str, Any]) -> AuditLine:
        """As `note`, in the transaction of a part whose tables are in the same database."""
        return self._append(connection, self._lock_head(connection), event, model, document)

    def releases(self, model: str | None = None, *, only_alive: bool = False, limit: int = 1000) -> list[Release]:
        """Releases, the newest first; `StorageError` where one cannot be read."""
        return [_readable(one) for one in self.found(model, only_alive=only_alive, limit=limit)]

    def found(
        self, model: str | None = None, *, only_alive: bool = False, limit: int = 1000
    ) -> list[Release | Unreadable]:
        """Releases, the newest first; one that cannot be read hides no other."""
        query = select(RELEASES).order_by(RELEASES.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(RELEASES.c.model == model)
        if only_alive:
            query = query.where(IS_ALIVE)
        try:
            with reading(self.engine) as connection:
                return [_release_or_why(row) for row in connection.execute(query)]
        except StorageError:
            return self._found_singly(query)

    def standing(self) -> set[tuple[int, str, float]]:
        """Number, status and share of the releases that run: what requests are answered by, and little to read.

        Also where a status is no text: that release alone is nothing that anybody stands at.
        """
        query = select(RELEASES.c.id, _raw(RELEASES.c.status), RELEASES.c.share).where(IS_ALIVE)
        with reading(self.engine) as connection:
            return {(row.id, _word(row.status), row.share) for row in connection.execute(query)}

    def look(self) -> Look:
        """What holds now."""
        with reading(self.engine) as connection:
            line = int(connection.execute(select(AUDIT_HEAD.c.number)).scalar_one())
        current, found = self.current(), self.found(only_alive=True)
        return Look(
            line,
            current,
            {one.plan.model: one for one in found if isinstance(one, Release)},
            {one.model: one for one in found if isinstance(one, Unreadable)},
        )

    def newest(self, model: str) -> Release:
        """The newest release of a model; `ModelNotFoundError` where there never was one, `StorageError` for an unreadable one."""
        found = self.releases(model, limit=1)
        if not found:
            raise ModelNotFoundError(
                f"model {model!r} has no release here; start one with: edgeward release start PLAN"
            )
        return found[0]

    def find(self, number: int) -> Release:
        """The release of that number, which there is; `StorageError` where it cannot be read."""
        with reading(self.engine) as connection:
            row = connection.execute(select(RELEASES).where(RELEASES.c.id == number)).one()
        return _readable(_release_or_why(row))

    def current(self) -> dict[str, int]:
        """Model → the version that releases made the one to serve."""
        with reading(self.engine) as connection:
            return {row.model: row.version for row in connection.execute(select(CURRENT))}

    def audit(self, after: int = 0, limit: int = 1000, model: str | None = None) -> list[AuditLine]:
        """Lines of the log in order, behind number `after`."""
        query = select(AUDIT).where(AUDIT.c.number > after).order_by(AUDIT.c.number).limit(limit)
        if model is not None:
            query = query.where(AUDIT.c.model == model)
        with reading(self.engine) as connection:
            return [_line(row) for row in connection.execute(query)]

    def check_audit(self) -> tuple[int, str, str | None]:
        """Number and hash of the log's last line, and what is wrong with the log; None: nothing."""
        with reading(self.engine) as connection, connection.begin():
            head = connection.execute(select(AUDIT_HEAD.c.number, AUDIT_HEAD.c.hash)).one()
            lines = connection.execute(select(AUDIT).order_by(AUDIT.c.number).execution_options(yield_per=1000))
            problem = first_break((_line(row) for row in lines), (head.number, head.hash))
        return head.number, head.hash, problem

    def beat(self, seen: Seen | None, now: float) -> tuple[bool, str, Seen]:
        """One beat of the lease: whether this gateway leads, who does, and what to bring next time. `now`: monotonic seconds."""
        with writing(self.engine) as connection:
            row = self._lease(connection)
            decided, latest = claim(self.me, row, seen, now)
            if decided is Claim.WAIT:
                assert row is not None, "without a row there is nothing to wait for"
                return False, row.holder, latest
            mine = LeaseRow(self.me, 1 if row is None else row.beat + 1)
            if row is None:
                connection.execute(insert(LEASES).values(name=LEASE, holder=mine.holder, beat=mine.beat))
            else:
                connection.execute(
                    update(LEASES).where(LEASES.c.name == LEASE).values(holder=mine.holder, beat=mine.beat)
                )
        return True, self.me, Seen(mine, now)

    def give_back(self) -> None:
        """Another gateway may lead at once; nothing where this one does not."""
        with writing(self.engine) as connection:
            connection.execute(
                update(LEASES)
                .where(LEASES.c.name == LEASE, LEASES.c.holder == self.me)
                .values(holder="", beat=LEASES.c.beat + 1)
            )

    def _found_singly(self, query: Select[Any]) -> list[Release | Unreadable]:
        """The same, each row by itself: of a text that is none a database reads no row, and says not of which."""
        raw = _raw(RELEASES.c.model), _raw(RELEASES.c.status)
        with reading(self.engine) as connection:
            known = connection.execute(query.with_only_columns(RELEASES.c.id, *raw)).all()
        return [self._found(row.id, _word(row.model), _word(row.status)) for row in known]

    def _found(self, number: int, model: str, status: str) -> Release | Unreadable:
        try:
            with reading(self.engine) as connection:
                return _release_or_why(connection.execute(select(RELEASES).where(RELEASES.c.id == number)).one())
        except StorageError as error:
            return Unreadable(number, model, status, _unreadable(number, error))

    def _lease(self, connection: Connection) -> LeaseRow | None:
        found = connection.execute(
            select(LEASES.c.holder, LEASES.c.beat).where(LEASES.c.name == LEASE).with_for_update()
        ).first()
        return None if found is None else LeaseRow(found.holder, found.beat)

    def _require_lease(self, connection: Connection) -> None:
        row = self._lease(connection)
        if row is None or row.holder != self.me:
            leader = "none, for the moment" if row is None or not row.holder else row.holder
            raise ConflictError(f"this gateway does not lead; the one that leads releases on this database: {leader}")

    def _lock(self, connection: Connection) -> tuple[int, str]:
        self._require_lease(connection)
        return self._lock_head(connection)

    def _lock_head(self, connection: Connection) -> tuple[int, str]:
        head = connection.execute(select(AUDIT_HEAD.c.number, AUDIT_HEAD.c.hash).with_for_update()).one()
        return head.number, head.hash

    def _append(
        self, connection: Connection, head: tuple[int, str], event: str, model: str, document: Mapping[str, Any]
    ) -> AuditLine:
        number, previous = head
        line = next_line(number + 1, previous, self._unix_ms(), event, model, {"by": self.me, **document})
        connection.execute(
            insert(AUDIT).values(
                number=line.number,
                unix_ms=line.unix_ms,
                event=line.event,
                model=line.model,
                document=line.document,
                previous=line.previous,
                hash=line.hash,
            )
        )
        connection.execute(update(AUDIT_HEAD).values(number=line.number, hash=line.hash))
        return line

    def _pin(self, connection: Connection, plan: ReleasePlan, state: ReleaseState) -> None:
        """Which version is to be served when no release says otherwise."""
        version = plan.candidate if state.status in (Status.SETTLING, Status.PROMOTED) else plan.stable
        changed = connection.execute(update(CURRENT).where(CURRENT.c.model == plan.model).values(version=version))
        if changed.rowcount == 0:
            connection.execute(insert(CURRENT).values(model=plan.model, version=version))

    def unix_us(self) -> int:
        """Now, as lines of the log have it."""
        return int(self._unix_s() * 1_000_000)

    def _unix_ms(self) -> int:
        return int(self._unix_s() * 1000)


def _drop_traffic(connection: Connection, release: int, evidence: Mapping[str, Any] | None) -> None:
    """What other gateways saw of a release goes once it is in what is saved here; None: all of it, for the release has ended."""
    is_known = TRAFFIC.c.release == release
    if evidence is not None:
        is_known &= TRAFFIC.c.number <= evidence.get("late_read", {}).get(TRAFFIC_SOURCE, 0)
    connection.execute(delete(TRAFFIC).where(is_known))


def _promoted(release: Release) -> Promoted:
    plan = release.plan
    shares = tuple(percent / 100 for percent in plan.waves)
    return Promoted(release.id, plan.model, plan.stable, plan.candidate, shares, plan.wave_tolerated, plan.alpha)


def _columns(state: ReleaseState) -> dict[str, Any]:
    return {
        "status": str(state.status),
        "share": state.share,
        "stage": state.stage,
        "in_stage_s": state.in_stage_s,
        "reason": state.reason,
    }


def _release_or_why(row: Any) -> Release | Unreadable:
    try:
        if not isinstance(row.model, str):
            raise ValueError(f"its model is a {type(row.model).__name__}; expected a text")
        plan = ReleasePlan.model_validate_json(row.plan)
        evidence = json.loads(row.evidence)
        if not isinstance(evidence, dict):
            raise ValueError(f"its evidence is a {type(evidence).__name__}; expected an object")
        state = ReleaseState(Status(row.status), row.share, row.stage, row.in_stage_s, row.reason)
    except ValueError as error:
        return Unreadable(row.id, _word(row.model), _word(row.status), _unreadable(row.id, error))
    return Release(row.id, plan, state, evidence, row.began_unix_ms, row.changed_unix_ms)


def _raw(column: Column[str]) -> Label[bytes]:
    """A column of texts as bytes, for `_word`: no driver refuses those."""
    return cast(column, LargeBinary).label(column.name)


def _word(value: object) -> str:
    """A column that should be a text, as far as it is one: for people to know the row by."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _unreadable(number: int, error: Exception) -> str:
    return f"release {number} in the database cannot be read: {error}"


def _readable(found: Release | Unreadable) -> Release:
    if isinstance(found, Unreadable):
        raise StorageError(found.why)
    return found


def _line(row: Any) -> AuditLine:
    return AuditLine(row.number, row.unix_ms, row.event, row.model, row.document, row.previous, row.hash)

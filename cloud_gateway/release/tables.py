"""The tables of releases: releases, the versions to serve, the audit log and its head, the lease, and who runs releases."""

from __future__ import annotations

from typing import Final

from sqlalchemy import DDL, BigInteger, Column, Float, Integer, MetaData, String, Table, Text, UniqueConstraint, event

from cloud_gateway.release.state import ENDED

TABLES: Final = MetaData()
_ID: Final = BigInteger().with_variant(Integer, "sqlite")

RELEASES: Final = Table(
    "releases",
    TABLES,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False, index=True),
    Column("plan", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("in_stage_s", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("began_unix_ms", BigInteger, nullable=False),
    Column("changed_unix_ms", BigInteger, nullable=False),
)
IS_ALIVE: Final = RELEASES.c.status.not_in(ENDED)
"""Also of a status that only a later version knows: as long as it may run, no other release of its model begins."""
CURRENT: Final = Table(
    "current_versions",
    TABLES,
    Column("model", String(128), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
AUDIT: Final = Table(
    "audit",
    TABLES,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("unix_ms", BigInteger, nullable=False),
    Column("event", String(64), nullable=False),
    Column("model", String(128), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
AUDIT_HEAD: Final = Table(
    "audit_head",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
LEASES: Final = Table(
    "leases",
    TABLES,
    Column("name", String(32), primary_key=True),
    Column("holder", String(256), nullable=False),
    Column("beat", BigInteger, nullable=False),
)
REPORTED: Final = Table(
    "release_metrics",
    TABLES,
    # Never given twice, also after the newest rows are gone: whoever has read up to one goes on behind it.
    Column("number", _ID, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False, index=True),
    Column("release", BigInteger, nullable=False),
    Column("name", String(128), nullable=False),
    Column("report", String(128), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("value", Float, nullable=False),
    Column("segment", String(128), nullable=False),
    UniqueConstraint("release", "name", "report"),
    sqlite_autoincrement=True,
)
TRAFFIC: Final = Table(
    "release_traffic",
    TABLES,
    Column("number", _ID, primary_key=True, autoincrement=True),
    Column("release", BigInteger, nullable=False),
    Column("gateway", String(256), nullable=False),
    # Of its first request among all that the gateway has seen of the release: what is written twice is there once.
    Column("first", BigInteger, nullable=False),
    Column("seen", Text, nullable=False),
    UniqueConstraint("release", "gateway", "first"),
    sqlite_autoincrement=True,
)
GATEWAYS: Final = Table(
    "release_gateways",
    TABLES,
    Column("name", String(256), primary_key=True),
    Column("beat", BigInteger, nullable=False),
    # Of the audit log: whatever it says up to there holds for this gateway's callers.
    Column("line", BigInteger, nullable=False),
)
LEASE: Final = "releases"
"""The name of the one lease."""

# The log is only ever added to. Whoever may change the schema can still drop these; then the chain of hashes shows it.
event.listen(
    AUDIT,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "CREATE OR REPLACE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    ).execute_if(dialect="postgresql"),
)
event.listen(
    AUDIT,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    ).execute_if(dialect="postgresql"),
)
for _verb in ("UPDATE", "DELETE"):
    event.listen(
        AUDIT,
        "after_create",
        DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER audit_refuses_{_verb.lower()} BEFORE {_verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        ).execute_if(dialect="sqlite"),
    )

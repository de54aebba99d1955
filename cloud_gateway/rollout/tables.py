"""The tables of rollouts: each with its watch, the devices that have got its version with their outcomes, and who asks at all."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Float, MetaData, String, Table, Text

TABLES: Final = MetaData()

ROLLOUTS: Final = Table(
    "rollouts",
    TABLES,
    Column("release", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String(128), nullable=False, index=True),
    Column("base", BigInteger, nullable=False),
    Column("candidate", BigInteger, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("watch", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)
GIVEN: Final = Table(
    "rollout_devices",
    TABLES,
    Column("release", BigInteger, primary_key=True, autoincrement=False),
    Column("device", String(128), primary_key=True),
    Column("given_s", Float, nullable=False),
    Column("outcome", String(16)),
    Column("reason", Text, nullable=False),
)
FLEET: Final = Table(
    "fleet_devices",
    TABLES,
    Column("model", String(128), primary_key=True),
    Column("device", String(128), primary_key=True),
    Column("seen_s", Float, nullable=False, index=True),
)

"""A gateway whose home takes nothing when it starts: it answers all the same, and refuses what it would have to keep."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from pydantic import SecretStr

from cloud_gateway.admin.app import AdminRoute
from cloud_gateway.admin.key import AdminKey, admin_key_file, make_admin_key, read_admin_key
from cloud_gateway.settings import GatewaySettings
from runtime.errors import StorageError
from runtime.serving.rest.extra_route import ExtraRoute
from runtime.store import sqlite_url

log = logging.getLogger(__name__)

# Less than that, and the smallest of databases finds no room either.
_PROBE_BYTES: Final = 1 << 16

Route = TypeVar("Route", AdminRoute, ExtraRoute)


@dataclass(frozen=True, slots=True)
class Footing:
    """What a gateway stands on."""

    settings: GatewaySettings
    admin_key: AdminKey
    """In whose name things change; one that nobody has where there is none and none can be made."""
    refusal: StorageError | None = None
    """Why nothing that changes would be there after the next start; None: it is."""

    def changing(self, route: Route) -> Route:
        """A route that keeps what it is told; where nothing is kept it refuses, so that it is told again later."""
        refusal = self.refusal
        if refusal is None:
            return route

        async def refuse(_: object) -> NoReturn:
            raise refusal

        return replace(route, answer=refuse)


@contextmanager
def footing(settings: GatewaySettings, home: Path) -> Iterator[Footing]:
    """The home as it is; where it takes nothing, a copy of its database that is gone at the end, in which nobody changes anything.

    `StorageError` where the home takes nothing and a model has a level of automation: people would be promised what is not kept.
    """
    problem = None if settings.database is not None else _problem(home / "gateway")
    if problem is None:
        yield Footing(settings, AdminKey(make_admin_key(admin_key_file(home))))
        return
    if settings.automation:
        raise StorageError(
            f"{home} takes nothing ({problem.strerror}), and model {settings.automation[0].model!r} has a level of automation, "
            "whose reviews must be kept; make it writable, or name another database"
        )

    refusal = StorageError(
        f"{home} took nothing when this gateway started ({problem.strerror}), so a change would be gone at the next start; "
        "make it writable and start the gateway again"
    )

    with tempfile.TemporaryDirectory(prefix="edgeward-gateway-") as folder:
        _copy(home / "gateway", Path(folder))
        log.error(
            "%s takes nothing (%s): models answer, releases stand where they stood, and nothing that changes from now on is kept: "
            "neither charts, statistics of devices, results by key nor what releases decide; the admin API refuses changes",
            home,
            problem.strerror,
        )
        url = SecretStr(sqlite_url(Path(folder) / "gateway.db"))
        file = admin_key_file(home)
        key = read_admin_key(file) if file.exists() else secrets.token_urlsafe()
        yield Footing(settings.model_copy(update={"database": url}), AdminKey(key), refusal)


def _problem(folder: Path) -> OSError | None:
    """Why nothing can be written there; None: it can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error
    return None


def _copy(source: Path, target: Path) -> None:
    """With the log of what was not yet in the database when a gateway was killed: which version serves may stand there alone."""
    for name in ("gateway.db", "gateway.db-wal"):
        try:
            if (source / name).exists():
                shutil.copyfile(source / name, target / name)
        except OSError as error:
            raise StorageError(f"the database {source / name} cannot be read: {error}; look at its rights") from error

"""Whether this gateway leads the releases of its database: the lease of `lease`, held by its beats."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from cloud_gateway.release.lease import TRUST_S, Seen
from cloud_gateway.release.store import ReleaseStore
from runtime.errors import ConflictError, StorageError

log = logging.getLogger(__name__)

# A command waits so long for a gateway that has just started to lead: the lease of one that was killed runs out by then.
LEAD_WAIT_S: Final = 8.0
_LOOK_S: Final = 0.1


class Leadership:
    """Used on one event loop."""

    def __init__(self, store: ReleaseStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.leader = ""
        """As it was last seen."""
        self.trouble: StorageError | None = None
        """Why the last beat did not reach the database."""
        self._store = store
        self._monotonic = monotonic
        self._seen: Seen | None = None
        self._led_at: float | None = None
        self._failed_at: float | None = None
        """When the newest beat that failed began."""

    @property
    def is_held(self) -> bool:
        """Whether this gateway decides; false as soon as it could not say so to the database for a while."""
        return self._led_at is not None and self._monotonic() - self._led_at < TRUST_S

    async def beat(self) -> bool:
        """Renews the lease, or takes it where it is free; whether this gateway leads from now on and did not before."""
        now = self._monotonic()
        was_held = self.is_held
        try:
            leads, leader, self._seen = await asyncio.to_thread(self._store.beat, self._seen, now)
        except StorageError as error:
            log.error("the lease of releases cannot be renewed: %s", error)
            self.trouble, self._failed_at = error, now
            return False
        self.trouble = None
        if leader != self.leader:
            log.info("releases on this database are led by %s", "this gateway" if leads else leader)
        self.leader = leader
        self._led_at = now if leads else None
        return leads and not was_held

    async def require(self) -> None:
        """Waits a moment for the lead; `ConflictError` names who has it, `StorageError` says why nobody can know."""
        asked = self._monotonic()
        while not self.is_held:
            is_over = self._monotonic() - asked >= LEAD_WAIT_S
            has_failed = self._failed_at is not None and self._failed_at >= asked  # trouble of before may have passed
            if self.trouble is not None and (has_failed or is_over):
                raise StorageError(
                    f"nothing can be changed now, and stable answers until the database takes writes: {self.trouble}"
                ) from self.trouble
            if is_over:
                raise ConflictError(
                    "this gateway does not lead the releases of its database; ask the one that does: "
                    f"{self.leader or 'none is known'}"
                )
            await asyncio.sleep(_LOOK_S)

    async def give_back(self) -> None:
        """Another gateway may lead at once."""
        self._led_at = None
        try:
            await asyncio.to_thread(self._store.give_back)
        except StorageError as error:
            log.warning("the lease of releases was not given back, so another gateway waits for its end: %s", error)

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        return {"is_leading": self.is_held, "leader": self.leader}

"""Drift on its way to the levels: a model whose rows have changed does not answer by itself until they lie as before again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from cloud_gateway.automation.service import AutomationService
from cloud_gateway.automation.store import AutomationStore
from runtime.errors import StorageError
from runtime.monitoring.verdict import Verdict

log = logging.getLogger(__name__)

# Windows of statistics close after half a minute: sooner there is nothing new.
LOOK_EVERY_S: Final = 5.0
MOST_NAMED: Final = 3
"""Of several that drift, so many are told by name."""

Findings = Callable[[], Mapping[str, str]]
"""Model → what drifts, empty where nothing does; a model that nobody has looked at is not in it."""


Seen = Mapping[tuple[str, int], Sequence[Verdict]]
"""By model and version, what drifts."""


def findings_of(
    here: Seen, versions: Callable[[str], Sequence[int]], on_devices: Seen = MappingProxyType({})
) -> dict[str, str]:
    """What was seen here and on devices by model and version, by model: of the versions that are served now."""
    found: dict[str, list[tuple[str, Verdict]]] = {}
    for prefix, verdicts in (("", here), ("on devices, ", on_devices)):
        for (model, version), several in verdicts.items():
            if version in versions(model):
                found.setdefault(model, []).extend((prefix, verdict) for verdict in several)
    return {model: _told(several) for model, several in found.items()}


class DriftWatch:
    """Notes with `store` what `findings` says, for every segment of a model: the monitor does not tell them apart.

    What another gateway on the same database found is its own to take back.
    """

    def __init__(self, store: AutomationStore, service: AutomationService, findings: Findings) -> None:
        self._store = store
        self._service = service
        self._findings = findings
        self._noted: set[tuple[str, str]] | None = None
        """Model and segment of what this gateway noted; None: it has not looked yet, and what stands there was its own."""

    async def run(self) -> None:
        """Looks every `LOOK_EVERY_S`, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """One look; a finding that no disk takes is noted at the next one."""
        asked = self._service.asked_for()
        try:
            has_noted = await asyncio.to_thread(self._note, asked)
        except StorageError as error:
            log.error("drift could not be noted with the levels of automation: %s", error)
            return
        if has_noted:
            self._service.forget_levels()

    def _note(self, asked: Iterable[tuple[str, str]]) -> bool:
        findings = {model: said for model, said in self._findings().items() if model in self._store.settings}
        if not findings:
            return False
        noted = {(model, segment): bool(standing.drift) for model, segment, standing in self._store.standings()}
        if self._noted is None:
            self._noted = {place for place, is_drifting in noted.items() if is_drifting}
        has_noted = False
        for place in {*noted, *asked, *((model, "") for model in findings)}:
            finding = findings.get(place[0])
            if finding is None or bool(finding) == noted.get(place, False):
                continue
            if not finding and place not in self._noted:
                continue
            self._store.note_drift(*place, finding)
            has_noted = True
            if finding:
                self._noted.add(place)
            else:
                self._noted.discard(place)
        return has_noted


def _told(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    named = "; ".join(
        f"{prefix}{one.feature}: {one.suspect.value} ({one.detail})" for prefix, one in verdicts[:MOST_NAMED]
    )
    more = len(verdicts) - MOST_NAMED
    return f"{named}; and {more} more" if more > 0 else named

"""One pass over the wanted models: ask the gateway, fetch, check, switch, and roll back what does not hold. Blocking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.home_lock import hold_pass
from edge_agent.sync import record as records
from edge_agent.sync.check import Checked, Chooses, check_apart
from edge_agent.sync.interruption import Interruption
from edge_agent.sync.record import ModelRecord, Offer
from edge_agent.sync.state import SyncFolder, SyncState
from runtime.errors import (
    CancelledError,
    ConflictError,
    EdgewardError,
    MachineError,
    ModelError,
    StorageError,
    WrongUseError,
)

if TYPE_CHECKING:
    from edge_agent.sync.download import Source

log = logging.getLogger(__name__)


class Served(Protocol):
    """What serves models in this process; `EngineModels` is one."""

    def digest(self, model: str) -> str | None:
        """Of the bundle in service; None where the model is not served."""

    def in_use(self) -> list[Path]:
        """The folders of all bundles in service."""

    def switch(self, model: str, source: Path | None) -> None:
        """Serves `source` from now on, in one step; None: what the settings name. An error leaves everything as it was."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be kept current, and from where."""

    source: Source
    models: tuple[str, ...]
    max_bytes: int
    chooses: Chooses
    device: str = ""
    """How the gateway knows this device; empty: it does not, and offers what has gone to every device."""


class Syncer:
    """Keeps the records and acts on them; `served` is None where no agent runs, and the next one to start takes the switch."""

    def __init__(
        self,
        folder: SyncFolder,
        wishes: Wishes | None,
        served: Served | None,
        check: Callable[[Path, str, Chooses, Interruption], Checked] = check_apart,
        writing: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`writing` is entered for as long as the records change, by who has no agent: while an agent has them, it raises."""
        self._folder = folder
        self._wishes = wishes
        self._served = served
        self._check = check
        self._writing_alone = writing
        self._interruption = Interruption()
        # Of one pass, or whatever else changes the records, at a time.
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._has_stopped = False
        # By model, what this run put in service, unlike the records where the disk took nothing. None: what the settings name.
        self._serving: dict[str, Offer | None] = {}

    def start(self) -> None:
        """Before anything is answered: serves what was synced before, rolled back where it has crashed twice.

        Where the disk takes nothing, crashes of what is on trial could not be counted: the version before it serves meanwhile.
        """
        if not self._folder.exists():
            return
        with self._lock:
            state = self._folder.read()
            try:
                self._write(self._begin(state, state.models))
            except StorageError as error:
                log.error("synced versions begin no trial before their records can be written: %s", error)
                for name, found in state.models.items():
                    if name not in self._serving:
                        self._serve(state, name, records.proven(found))

    def sync(self) -> dict[str, Any]:
        """One pass; what `describe` says after it. `WrongUseError` where nothing is wished for.

        `ConflictError` where another process is at one, or an agent has the records, or had them since this one began.
        """
        from edge_agent.sync.download import fetch_index  # what an agent that keeps nothing current need not load

        wishes = self._wishes
        if wishes is None:
            raise WrongUseError(
                "nothing is to be kept current; set sync_from to the gateway's HTTP address and sync_models to names"
            )
        with self._lock, hold_pass(self._folder.path):
            state = self._folder.read()
            state = self._begin(state, [name for name, found in state.models.items() if not self._serves(name, found)])
            errors = []
            offered = None
            known = state
            try:
                known = state = self._tell(state, wishes)
                offers = fetch_index(wishes.source, self._interruption, wishes.device, wishes.models)
            except EdgewardError as error:
                errors.append(str(error))
            else:
                offered = {offer.sha256 for offer in offers}
                for name in wishes.models:
                    try:
                        state = self._sync_one(state, name, [offer for offer in offers if offer.model == name], wishes)
                    except EdgewardError as error:
                        errors.append(f"{name}: {error}")
            for text in errors:
                log.warning("models are not synced: %s", text)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            state = replace(state, last_at=now, last_error="; ".join(errors) or None)
            with self._alone_with(known):
                self._write(state)
                self._folder.tidy(state, offered, [] if self._served is None else self._served.in_use())
            return self._told(state)

    def confirm(self) -> None:
        """What serves has served long enough."""
        if not self._folder.exists():
            return
        with self._lock:
            state = self._folder.read()
            confirmed = self._changed(state, records.confirmed)
            if confirmed != state:
                self._write(confirmed)

    def interrupt(self) -> None:
        """Cuts the pass under way short, and every later one: what is fetched stays, and the next start goes on with it."""
        self._interruption.set()

    def stop(self) -> None:
        """The agent ends because it was told to; a pass that is still under way changes nothing any more."""
        if not self._folder.exists():
            return
        with self._writing:
            self._has_stopped = True
            state = self._folder.read()
            ended = self._changed(state, records.ended_well)
            if ended != state:
                self._folder.write(ended)

    def describe(self) -> dict[str, Any]:
        """For `agent status`."""
        if not self._folder.exists():
            return {"last_at": None, "last_error": None, "models": {}}
        try:
            return self._told(self._folder.read())
        except EdgewardError as error:
            return {"last_at": None, "last_error": str(error), "models": {}}

    def _serves(self, name: str, found: ModelRecord) -> bool:
        """Whether the version of the record is the one in service: not where the disk took nothing when they parted."""
        return self._serving.get(name, found.current) == found.current

    def _changed(self, state: SyncState, change: Callable[[ModelRecord], ModelRecord]) -> SyncState:
        """What serves, changed. A record of what does not serve stays as it is: nothing has been learnt about that."""
        models = {name: change(found) if self._serves(name, found) else found for name, found in state.models.items()}
        return replace(state, models=models)

    def _told(self, state: SyncState) -> dict[str, Any]:
        """`describe` of what serves."""
        serving = self._serving
        models = {
            name: records.instead(found, serving.get(name, found.current)) for name, found in state.models.items()
        }
        return describe(replace(state, models=models))

    def _begin(self, state: SyncState, names: Collection[str]) -> SyncState:
        """These served as their records say. On disk before anything is loaded: what crashes while it loads has to count."""
        begun = {name: records.begun(state.models[name]) for name in names}
        state = replace(state, models={**state.models, **begun})
        if begun:
            self._write(state)
        for name, found in begun.items():
            if found.note.startswith("rolled back"):
                log.warning("model %s: %s", name, found.note)
            state = self._serve(state, name, found)
        return state

    def _tell(self, state: SyncState, wishes: Wishes) -> SyncState:
        """What became of versions here since the gateway was told last; written down as told once it has answered."""
        outcomes: list[dict[str, object]] = [
            {"model": name, "version": one.version, "outcome": str(one.outcome), "reason": one.reason}
            for name, found in state.models.items()
            for one in found.untold
        ]
        if not outcomes:
            return state
        if wishes.device:
            from edge_agent.sync.download import tell_outcomes

            tell_outcomes(wishes.source, self._interruption, wishes.device, outcomes)
        told = replace(state, models={name: records.told(found, found.untold) for name, found in state.models.items()})
        with self._alone_with(state):
            self._write(told)
        return told

    def _sync_one(self, state: SyncState, name: str, offers: Sequence[Offer], wishes: Wishes) -> SyncState:
        from edge_agent.sync.download import download

        found = state.models.get(name, ModelRecord())
        served = None if self._served is None else self._served.digest(name)
        offer = records.wanted(found, served, offers)
        if offer is None:
            if not offers:
                raise WrongUseError(f"the gateway {wishes.source.address} offers no bundle of it")
            return state
        log.info("model %s: fetching version %d (%d bytes)", name, offer.version, offer.size_bytes)
        tar = self._folder.tar(offer)
        download(wishes.source, offer, self._folder.part(offer), tar, wishes.max_bytes, self._interruption)
        checked = self._check(tar, name, wishes.chooses, self._interruption)
        if not checked.is_good:
            log.warning("model %s: version %d is not taken: %s", name, offer.version, checked.text)
            return self._with(state, name, records.rejected(found, offer, checked.text))
        found = records.switched(found, offer)
        if self._served is None:
            # Nobody has loaded it yet.
            return self._with(state, name, records.ended_well(found))
        state = self._with(state, name, found)
        self._write(state)
        return self._serve(state, name, found)

    def _serve(self, state: SyncState, name: str, found: ModelRecord) -> SyncState:
        """The current version in service; where it does not load, the one before it, and at last what the settings name."""
        assert self._served is not None, "only an agent serves"
        before = self._serving.get(name)
        while found.current is not None:
            self._serving[name] = found.current  # also while it loads: to be stopped meanwhile is no crash
            try:
                self._served.switch(name, self._folder.tar(found.current))
                log.info("model %s: version %d serves", name, found.current.version)
                return self._with(state, name, found)
            except (ModelError, MachineError) as error:
                found = records.rolled_back(found, str(error))
                log.warning("model %s: %s", name, found.note)
        self._serving[name] = None
        if before is not None:
            try:
                self._served.switch(name, None)
            except (ModelError, MachineError) as error:
                self._serving[name] = before
                log.warning("model %s: version %d goes on: %s", name, before.version, error)
        return self._with(state, name, found)

    @contextmanager
    def _alone_with(self, known: SyncState) -> Iterator[None]:
        """For as long as the records change: nobody else has them, nor has changed them since they were read as `known`."""
        with self._writing_alone():
            if self._served is None and self._folder.read() != known:
                raise ConflictError(
                    f"an agent has run on {self._folder.path.parent} meanwhile and changed what is kept of the models; nothing of "
                    "this pass is kept but what was fetched: sync again"
                )
            yield

    def _write(self, state: SyncState) -> None:
        with self._writing:
            if self._has_stopped:
                raise CancelledError("the agent has ended; the next start begins with what is written down")
            self._folder.write(state)

    @staticmethod
    def _with(state: SyncState, name: str, found: ModelRecord) -> SyncState:
        return replace(state, models={**state.models, name: found})


def describe(state: SyncState) -> dict[str, Any]:
    """The state as JSON, for people and programs."""
    models: Mapping[str, ModelRecord] = state.models
    return {
        "last_at": state.last_at,
        "last_error": state.last_error,
        "models": {
            name: {
                "version": None if found.current is None else found.current.version,
                "previous": None if found.previous is None else found.previous.version,
                "is_on_trial": found.trial is not None,
                "note": found.note,
            }
            for name, found in models.items()
        },
    }

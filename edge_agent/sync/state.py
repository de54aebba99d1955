"""The records of all wanted models in one file, and the tars they speak of, in one folder of the agent."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.sync.record import Ended, ModelRecord, Offer, Outcome, Trial
from runtime.bundle import unpacked
from runtime.errors import StorageError
from runtime.row_files.writer import sync_folder

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class SyncState:
    """Everything that survives a restart."""

    models: Mapping[str, ModelRecord] = field(default_factory=dict)
    last_at: str | None = None
    """When the gateway was last asked, as ISO 8601 in UTC."""
    last_error: str | None = None
    """Why that did not end well; None: it did."""


class SyncFolder:
    """`state.json`, `bundles/SHA256.tar` and `downloads/SHA256.part`; `unpacked`: where tars are unpacked, as SHA256."""

    def __init__(self, path: Path, unpacked: Path | None = None) -> None:
        self.path = path
        self._unpacked = unpacked
        self._file = path / "state.json"

    def tar(self, offer: Offer) -> Path:
        """Where a bundle's tar lies, whole, once it is fetched."""
        return self.path / "bundles" / f"{offer.sha256}.tar"

    def part(self, offer: Offer) -> Path:
        """Where it grows until then."""
        return self.path / "downloads" / f"{offer.sha256}.part"

    def exists(self) -> bool:
        """Whether anything was ever synced here."""
        return self._file.exists()

    def read(self) -> SyncState:
        """The state; an empty one where there is none. `StorageError` where the file is damaged."""
        try:
            said = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return SyncState()
        except (OSError, ValueError) as error:
            raise StorageError(f"{self._file} cannot be read: {error}; remove it to begin anew") from error
        try:
            models = {name: _record(record) for name, record in said["models"].items()}
            return SyncState(models, said["last_at"], said["last_error"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StorageError(f"{self._file} is damaged ({error!r}); remove it to begin anew") from error

    def write(self, state: SyncState) -> None:
        """Replaces the state in one step, on disk when this returns."""
        said = {"schema_version": SCHEMA_VERSION, **asdict(state)}
        fresh = self._file.with_suffix(".new")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as stream:
                json.dump(said, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(self._file)
            sync_folder(self.path)
        except OSError as error:
            raise StorageError(f"{self._file} cannot be written: {error}") from error

    def tidy(self, state: SyncState, offered: Collection[str] | None, in_use: Collection[Path] = ()) -> None:
        """Removes tars that no record speaks of, with what was unpacked of them, and beginnings of those whose sha256 is not
        `offered` (None: not known now).

        A beginning of what is offered stays: the next pass goes on with it. So does a bundle whose folder is `in_use`.
        """
        kept = {
            offer.sha256
            for record in state.models.values()
            for offer in (record.current, record.previous)
            if offer is not None
        }
        gone = [
            path
            for path in (self.path / "bundles").glob("*.tar")
            if path.stem not in kept and not self._is_in_use(path.stem, in_use)
        ]
        for path in gone:
            self._remove_unpacked(path.stem)
        if offered is not None:
            gone += [path for path in (self.path / "downloads").glob("*.part") if path.stem not in offered]
        for path in gone:
            path.unlink(missing_ok=True)

    def _is_in_use(self, sha256: str, in_use: Collection[Path]) -> bool:
        return self._unpacked is not None and any(root.is_relative_to(self._unpacked / sha256) for root in in_use)

    def _remove_unpacked(self, sha256: str) -> None:
        """But for what another process uses, which goes as any other archive does once nobody has for long."""
        if self._unpacked is not None:
            unpacked.remove(self._unpacked / sha256)


def _record(said: dict[str, Any]) -> ModelRecord:
    return ModelRecord(
        current=_offer(said["current"]),
        previous=_offer(said["previous"]),
        trial=None if said["trial"] is None else Trial(**said["trial"]),
        rejected=tuple(said["rejected"]),
        note=said["note"],
        # Absent in what an earlier version wrote.
        untold=tuple(Ended(one["version"], Outcome(one["outcome"]), one["reason"]) for one in said.get("untold", ())),
    )


def _offer(said: dict[str, Any] | None) -> Offer | None:
    return None if said is None else Offer(**said)

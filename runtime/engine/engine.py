"""The models of one process: sources by name, versions loaded from them, one table that readers never wait for.

Loading and unloading take time and run on the caller's thread; a new version replaces an old one in one step, and the old one is
closed once its calls have ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime import config
from runtime.backends.base import Backend
from runtime.backends.registry import all_backends
from runtime.bundle.bundle import Bundle
from runtime.bundle.locate import open_bundles
from runtime.engine.model import Model
from runtime.engine.versions import VersionPolicy
from runtime.errors import BundleError, EdgewardError, ModelNotFoundError, ModelNotReadyError
from runtime.hardware import Hardware, probe
from runtime.selection.measure import Progress
from runtime.selection.select import choose
from runtime.selection.settings import SelectionSettings
from runtime.wire.values import IndexEntry, ModelState

log = logging.getLogger(__name__)




@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine chooses and keeps its models."""

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    versions: VersionPolicy = field(default_factory=VersionPolicy)
    home: Path | None = None
    """Where calibrations and unpacked archives are kept; None: `config.home()`."""


class Engine:
    """Loads, finds and unloads models; every method may be called from any thread."""

    def __init__(
        self,
        settings: EngineSettings | None = None,
        hardware: Hardware | None = None,
        backends: Sequence[Backend] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.settings = settings or EngineSettings()
        self.hardware = hardware or probe()
        self._home = self.settings.home or config.home()
        self._backends = tuple(backends) if backends is not None else all_backends()
        self._progress = progress
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._sources: dict[str, str | Path] = {}
        self._models: dict[str, dict[int, Model]] = {}
        """Replaced, never changed in place: readers take a reference and need no lock."""
        self._index: dict[tuple[str, int], IndexEntry] = {}

    def load(self, source: str | Path) -> Model:
        """Loads the versions of `source` that the policy names and returns the newest; see `open_bundles` for what a source is.

        Loading a model again replaces its versions without a failed call; a version whose bundle is unchanged stays as it is.
        Errors are those of opening and choosing; then the versions served before stay in service.
        """
        with self._loading:
            bundles = open_bundles(source, self._home / "bundles")
            name = bundles[0].name
            wanted = self.settings.versions.choose([bundle.version for bundle in bundles])
            if not wanted:
                raise BundleError(
                    f"{source} has the versions {[bundle.version for bundle in bundles]}; "
                    f"the version policy {self.settings.versions} chooses none of them"
                )
            before = self._models.get(name, {})
            table: dict[int, Model] = {}
            for bundle in bundles:
                if bundle.version in wanted:
                    kept = before.get(bundle.version)
                    table[bundle.version] = (
                        kept if kept is not None and kept.bundle.digest == bundle.digest else self._open(bundle)
                    )
            self._sources[name] = source
            self._publish(name, table)
            return table[max(table)]

    def reload(self, name: str) -> Model:
        """Loads `name` from the source it was loaded from first; `ModelNotFoundError` when it never was."""
        source = self._sources.get(name)
        if source is None:
            raise ModelNotFoundError(f"model {name!r} is not in the repository; it holds {self._names(self._sources)}")
        return self.load(source)

    def model(self, name: str, version: str = "") -> Model:
        """The version asked for, or the newest one; `ModelNotFoundError` or `ModelNotReadyError` says what there is."""
        versions = self._models.get(name)
        if not versions:
            raise self._not_served(name)
        if not version:
            return versions[max(versions)]
        found = versions.get(int(version)) if version.isdecimal() and len(version) < 19 else None
        if found is None:
            raise ModelNotFoundError(
                f"model {name!r} has no version {version!r} here; served: {', '.join(map(str, sorted(versions)))}"
            )
        return found

    def versions(self, name: str) -> list[int]:
        """The versions of a model that are ready, lowest first; empty for an unknown model."""
        return sorted(self._models.get(name, {}))

    def models(self) -> list[Model]:
        """Every loaded version of every model, by name and version."""
        return [versions[number] for _, versions in sorted(self._models.items()) for number in sorted(versions)]

    def index(self) -> list[IndexEntry]:
        """Every version that was ever asked for, and its state now."""
        with self._lock:
            return [self._index[key] for key in sorted(self._index)]

    def unload(self, name: str) -> None:
        """Takes every version of a model out of service, waits for its calls to end and gives the memory back."""
        with self._loading:
            if name not in self._models:
                raise self._not_served(name)
            self._publish(name, {}, reason="unloaded")

    def close(self) -> None:
        """Unloads everything."""
        for name in list(self._models):
            self.unload(name)

    def _open(self, bundle: Bundle) -> Model:
        is_served = bundle.version in self._models.get(bundle.name, {})
        if not is_served:
            self._note(bundle.name, bundle.version, ModelState.LOADING)
        try:
            choice = choose(
                bundle,
                self.hardware,
                self._backends,
                self.settings.selection,
                self._home / "calibrations",
                self._progress,
            )
            model = Model(bundle, choice)
            model.warm_up()
        except EdgewardError as error:
            state = ModelState.READY if is_served else ModelState.UNAVAILABLE
            self._note(bundle.name, bundle.version, state, f"loading it failed: {error}")
            raise
        for warning in choice.warnings:
            log.warning("model %s version %d: %s", bundle.name, bundle.version, warning)
        return model

    def _publish(self, name: str, table: dict[int, Model], reason: str = "replaced") -> None:
        """Puts a new table of versions in service, then closes those that are no longer in it."""
        with self._lock:
            before = self._models.get(name, {})
            models = {key: value for key, value in self._models.items() if key != name}
            if table:
                models[name] = table
            self._models = models
        for version in table:
            self._note(name, version, ModelState.READY)
        for version, model in before.items():
            if table.get(version) is not model:
                if version not in table:
                    self._note(name, version, ModelState.UNAVAILABLE, reason)
                model.close()

    def _note(self, name: str, version: int, state: ModelState, reason: str = "") -> None:
        with self._lock:
            self._index[name, version] = IndexEntry(name, str(version), state, reason)

    def _not_served(self, name: str) -> EdgewardError:
        states = [entry for entry in self.index() if entry.name == name]
        if any(entry.state is ModelState.LOADING for entry in states):
            return ModelNotReadyError(f"model {name!r} is still loading; retry in a moment")
        why = f" (version {states[-1].version} is {states[-1].state}: {states[-1].reason})" if states else ""
        return ModelNotFoundError(f"model {name!r} is not served here{why}; served: {self._names(self._models)}")

    @staticmethod
    def _names(names: object) -> str:
        return ", ".join(repr(name) for name in sorted(names)) or "none"  # type: ignore[call-overload]


def load(source: str | Path, settings: EngineSettings | None = None, progress: Progress | None = None) -> Model:
    """One model for use inside this process: chosen for this machine, warm, closed by `Model.close` or `with`.

    The newest version of `source` (a bundle's folder or tar, a bare .onnx/.tflite/.pt2, or the name of a bundle that ships with
    Edgeward); the first time on a machine it is measured for a few seconds, later the cached choice is used.
    """
    chosen = settings or EngineSettings()
    return Engine(replace(chosen, versions=VersionPolicy()), progress=progress).load(source)

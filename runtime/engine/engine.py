"""The models of one process: sources by name, versions loaded from them, one table that readers never wait for.

How a bundle becomes a model is `loader`'s matter. Loading and unloading take time and run on the caller's thread; a new version
replaces an old one in one step, and the old one is closed once its calls have ended.
"""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.backends.base import Backend
from runtime.bundle.bundle import Bundle
from runtime.engine.loader import Loader, require
from runtime.engine.model import Model
from runtime.engine.repository import Repository
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy
from runtime.errors import (
    BundleError,
    ConflictError,
    EdgewardError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from runtime.wire.values import IndexEntry, ModelState

if TYPE_CHECKING:
    from runtime.hardware import Hardware
    from runtime.selection.trying import Progress

log = logging.getLogger(__name__)


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
        self._loader = Loader(self.settings, hardware, backends, progress)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self.repository = None if self.settings.repository is None else Repository(self.settings.repository)
        self._sources: dict[str, str | Path] = {}
        self._policies: dict[str, VersionPolicy] = {}
        self._instances: dict[str, int] = {}
        """Of models whose last load asked for a number of its own."""
        self._models: dict[str, dict[int, Model]] = {}
        """Replaced, never changed in place: readers take a reference and need no lock."""
        self._index: dict[tuple[str, int], IndexEntry] = {}
        self._added: dict[str, set[int]] = {}
        """Versions that stand beside those of the model's source, and stay when that is loaded again."""

    @property
    def hardware(self) -> Hardware:
        """See `Loader.hardware`."""
        return self._loader.hardware

    def cores(self) -> int:
        """See `Loader.cores`."""
        return self._loader.cores()

    def load(self, source: str | Path) -> Model:
        """Loads the versions of `source` that the policy names and returns the newest; see `open_bundles` for what a source is.

        Loading a model again replaces its versions without a failed call; a version whose bundle is unchanged stays as it is.
        Errors are those of opening and choosing; then the versions served before stay in service.
        """
        found = self._in_repository(source)
        return self._load(source) if found is None else self._load(found, name=str(source))

    def _load(
        self,
        source: str | Path,
        versions: VersionPolicy | None = None,
        name: str | None = None,
        instances: int | None = None,
    ) -> Model:
        policy = versions or self.settings.versions
        with self._loading:
            try:
                bundles = self._loader.find(source)
            except BundleError as error:
                self._note_broken(name, error)
                raise
            if name is not None and bundles[0].name != name:
                raise BundleError(
                    f"{source} holds model {bundles[0].name!r}, not {name!r}; give the folder the model's name"
                )
            name = bundles[0].name
            wanted = policy.choose([bundle.version for bundle in bundles])
            if not wanted:
                raise BundleError(
                    f"{source} has the versions {[bundle.version for bundle in bundles]}; "
                    f"the version policy {policy} chooses none of them"
                )
            before = self._models.get(name, {})
            table = self._open_table(name, [bundle for bundle in bundles if bundle.version in wanted], instances)
            beside = self._added.get(name, set())
            beside -= set(table)
            table |= {version: before[version] for version in beside if version in before}
            self._sources[name] = source
            self._policies[name] = policy
            self._publish(name, table)
            return table[max(table)]

    def _open_table(self, name: str, bundles: Sequence[Bundle], instances: int | None) -> dict[int, Model]:
        """A model for each bundle, those that are served kept where they are unchanged; all of them, or nothing has changed."""
        before = self._models.get(name, {})
        table, opened = dict[int, Model](), list[Model]()
        try:
            for bundle in bundles:
                kept = before.get(bundle.version)
                if kept is not None and kept.bundle.digest == bundle.digest:
                    table[bundle.version] = kept
                else:
                    opened.append(self._open(bundle, instances))
                    table[bundle.version] = opened[-1]
            self._set_instances(name, [model for model in table.values() if model in before.values()], instances)
        except BaseException as error:
            for model in opened:
                model.close()
                if model.version not in before:
                    reason = f"it was opened, but the load it was part of failed: {error}"
                    self._note(name, model.version, ModelState.UNAVAILABLE, reason)
            raise
        return table

    def reload(
        self,
        name: str,
        versions: VersionPolicy | None = None,
        source: Path | None = None,
        instances: int | None = None,
    ) -> Model:
        """Loads `name` from the repository, or from where it was loaded first; `ModelNotFoundError` where it is in neither.

        `versions`, `source` and `instances` hold until the next load: another policy, other files, and how many calls are to
        run at the same time; `UnsupportedError` where so many cannot, and then nothing changes.
        """
        original = self._in_repository(name) or self._sources.get(name)
        chosen = source or original
        if chosen is None:
            known = {*self._sources, *(self.repository.names() if self.repository is not None else ())}
            raise ModelNotFoundError(f"model {name!r} is not in the repository; it holds {self._names(known)}")
        model = self._load(chosen, versions, name, instances)
        if original is not None:
            self._sources[name] = original
        return model

    def add(self, bundle: Bundle) -> Model:
        """Puts one version in service beside those of its model that are, whatever the version policy; until `remove`.

        `ConflictError` when that version is in service with other content; errors of opening leave everything as it was.
        """
        with self._loading:
            before = self._models.get(bundle.name, {})
            kept = before.get(bundle.version)
            if kept is not None:
                if kept.bundle.digest != bundle.digest:
                    raise ConflictError(
                        f"model {bundle.name!r} version {bundle.version} is served with digest {kept.bundle.digest[:12]}…; the one "
                        f"to be added has {bundle.digest[:12]}…; give it a version of its own"
                    )
                return kept
            model = self._open(bundle, self._instances.get(bundle.name))
            self._added.setdefault(bundle.name, set()).add(bundle.version)
            self._publish(bundle.name, {**before, bundle.version: model})
            return model

    def remove(self, name: str, version: int, reason: str = "removed") -> None:
        """Takes one version out of service once its calls have ended, and gives its memory back; nothing where it is not served."""
        with self._loading:
            before = self._models.get(name, {})
            self._added.get(name, set()).discard(version)
            if version in before:
                self._publish(name, {key: value for key, value in before.items() if key != version}, reason)

    def policy(self, name: str) -> VersionPolicy:
        """The version policy that a model was loaded with."""
        return self._policies.get(name, self.settings.versions)

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
        """Every version that was ever asked for, and its state now; and models of the repository that were not."""
        with self._lock:
            known = [self._index[key] for key in sorted(self._index)]
        if self.repository is None:
            return known
        names = {entry.name for entry in known}
        absent = [name for name in self.repository.names() if name not in names]
        return sorted(
            [*known, *(IndexEntry(name, "", ModelState.UNAVAILABLE, "not loaded") for name in absent)],
            key=lambda entry: (entry.name, int(entry.version or 0)),
        )

    def unload(self, name: str) -> None:
        """Takes every version of a model out of service, waits for its calls to end and gives the memory back."""
        with self._loading:
            if name not in self._models:
                raise self._not_served(name)
            self._added.pop(name, None)
            self._publish(name, {}, reason="unloaded")

    def close(self) -> None:
        """Unloads everything."""
        for name in list(self._models):
            self.unload(name)

    def _in_repository(self, source: str | Path) -> Path | None:
        return self.repository.find(source) if self.repository is not None and isinstance(source, str) else None

    def _note_broken(self, name: str | None, error: BundleError) -> None:
        """A model whose files cannot even be read has no version; the index says why, unless another state stands there."""
        if name is not None and not any(known == name and version for known, version in self._index):
            with self._lock:
                self._index[name, 0] = IndexEntry(name, "", ModelState.UNAVAILABLE, f"loading it failed: {error}")

    def _set_instances(self, name: str, kept: Sequence[Model], instances: int | None) -> None:
        """Has models that stay in service run as many calls at the same time as this load, or else the settings, ask for."""
        count = self.settings.instances.of(name) if instances is None else instances
        if instances is not None:
            for model in kept:
                require(name, instances, model.grant(instances))
        changed: list[tuple[Model, int]] = []
        try:
            for model in kept:
                changed.append((model, model.instances))
                model.set_instances(count)
        except BaseException:
            for model, was in changed:
                _set_back(model, was)
            raise
        if instances is None:
            self._instances.pop(name, None)
        else:
            self._instances[name] = instances

    def _open(self, bundle: Bundle, instances: int | None = None) -> Model:
        is_served = bundle.version in self._models.get(bundle.name, {})
        if not is_served:
            self._note(bundle.name, bundle.version, ModelState.LOADING)
        try:
            return self._loader.open(bundle, instances)
        except BaseException as error:
            state = ModelState.READY if is_served else ModelState.UNAVAILABLE
            self._note(bundle.name, bundle.version, state, f"loading it failed: {error}")
            raise

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
            self._index.pop((name, 0), None)
            self._index[name, version] = IndexEntry(name, str(version), state, reason)

    def _not_served(self, name: str) -> EdgewardError:
        states = [entry for entry in self.index() if entry.name == name]
        if any(entry.state is ModelState.LOADING for entry in states):
            return ModelNotReadyError(f"model {name!r} is still loading; retry in a moment")
        why = f" (version {states[-1].version} is {states[-1].state}: {states[-1].reason})" if states else ""
        # Triton's first words, which its clients look for.
        unknown = f"Request for unknown model: model {name!r} is not served here{why}"
        near = difflib.get_close_matches(name, self._models, n=1)
        meant = f"; did you mean {near[0]!r}?" if near and not states else ""
        return ModelNotFoundError(f"{unknown}; served: {self._names(self._models)}{meant}")

    @staticmethod
    def _names(names: object) -> str:
        return ", ".join(repr(name) for name in sorted(names)) or "none"  # type: ignore[call-overload]


def _set_back(model: Model, instances: int) -> None:
    """For a load that failed: what cannot be undone is said, and stands."""
    try:
        model.set_instances(instances)
    except EdgewardError as error:
        log.error(
            "model %s version %d: stays at %d calls at a time, not %d as before the load that failed: %s",
            model.name,
            model.version,
            model.instances,
            instances,
            error,
        )

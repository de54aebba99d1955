"""From a bundle to a model on this machine: its choice recalled or made, opened, warm. Who keeps it is another's matter."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import config
from runtime.backends.base import Backend
from runtime.backends.registry import all_backends, our_backends
from runtime.bundle.bundle import Bundle
from runtime.bundle.locate import open_bundles
from runtime.engine.grant import Granted
from runtime.engine.measuring import MEASURING
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.watch import Watch
from runtime.errors import UnsupportedError
from runtime.hardware.cores import allowed_threads
from runtime.hardware.host import Host
from runtime.selection.cache import glance
from runtime.selection.choice import Choice
from runtime.selection.goal import memory_cap_mb
from runtime.selection.recall import recall

if TYPE_CHECKING:
    from runtime.hardware import Hardware
    from runtime.selection.trying import Progress

log = logging.getLogger(__name__)


class Loader:
    """Makes models by one set of settings; takes time, on the caller's thread. Any thread may call anything."""

    def __init__(
        self,
        settings: EngineSettings,
        hardware: Hardware | None = None,
        backends: Sequence[Backend] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """`hardware`, `backends`: instead of those that are found here."""
        home = settings.home or config.home()
        self.calibrations = home / "calibrations"
        """Where choices are kept."""
        self._unpacked = home / "bundles"
        self._settings = settings
        self._given_hardware = hardware
        self._given_backends = None if backends is None else tuple(backends)
        self._progress = progress

    def find(self, source: str | Path) -> list[Bundle]:
        """The bundles of `source`, see `open_bundles`."""
        return open_bundles(source, self._unpacked)

    def open(self, bundle: Bundle, instances: int | None = None) -> Model:
        """`bundle` as the kept choice says, or measured; warm where the settings ask for that. Errors leave nothing open."""
        choice = self._choose(bundle)
        model = self.make(bundle, choice, instances)
        if self._settings.is_warmed_up:
            try:
                model.warm_up()
            except BaseException:
                model.close()
                raise
        for warning in choice.warnings if choice.from_cache else (*choice.warnings, *choice.doubts):
            _warn(bundle.name, bundle.version, bundle.digest, warning)
        return model

    def make(self, bundle: Bundle, choice: Choice, instances: int | None = None) -> Model:
        """`bundle` opened by `choice`, not run yet.

        `instances` of a load have to be had; those of the settings are a wish, for the next candidate may have to do.
        """
        count = self._settings.instances.of(bundle.name) if instances is None else instances
        cap_mb = memory_cap_mb(bundle, self._settings.selection)
        watch = Watch(self._settings.watch, self.choose_again, self.cores, cap_mb)
        model = Model(bundle, choice, watch, count, cap_mb)
        if count == 1:
            return model  # so many are granted everywhere
        granted = model.granted
        if instances is not None:
            try:
                require(bundle.name, instances, granted)
            except UnsupportedError:
                model.close()
                raise
        elif granted.why_fewer:
            log.warning(
                "model %s: %d calls at a time instead of %d: %s", bundle.name, granted.count, count, granted.why_fewer
            )
        return model

    @property
    def hardware(self) -> Hardware:
        """The machine, probed when it is first asked for (a model whose kept choice still holds needs no probe), and again
        when a model is measured again: fewer cores may be allowed by then.
        """
        return self._looked[1]

    def cores(self) -> int:
        """Threads that may run at the same time, as last probed; before any probe, which no start waits for, as allowed now."""
        looked: tuple[str | None, Hardware] | None = self.__dict__.get("_looked")
        if looked is not None or self._given_hardware is not None:
            return self.hardware.cores.threads
        return allowed_threads(Host.this_machine())

    @cached_property
    def _looked(self) -> tuple[str | None, Hardware]:
        return self._look()

    def _look(self) -> tuple[str | None, Hardware]:
        """The machine at a glance, and then closely: what changes in between is seen at the next glance."""
        if self._given_hardware is not None:
            return None, self._given_hardware
        from runtime.hardware import probe  # a load that recalls its choice needs neither this nor what measures

        return glance(), probe()

    @cached_property
    def _backends(self) -> tuple[Backend, ...]:
        return all_backends() if self._given_backends is None else self._given_backends

    def _choose(self, bundle: Bundle) -> Choice:
        settings = self._settings.selection
        if self._given_hardware is None:
            ours = self._given_backends or our_backends()
            kept = recall(bundle, ours, settings, self.calibrations)
            if kept is not None:
                return kept
        from runtime.selection.select import choose

        with MEASURING:
            seen, hardware = self._looked
            return choose(bundle, hardware, self._backends, settings, self.calibrations, self._progress, seen)

    def choose_again(self, model: Model, progress: Progress) -> Choice:
        """Measured anew beside what serves. Not kept: the kept choice was measured at rest, this may be a passing state."""
        from runtime.selection.select import choose

        self.__dict__["_looked"] = self._look()  # others go by the last one meanwhile
        settings = replace(self._settings.selection, refresh=True)
        return choose(model.bundle, self.hardware, self._backends, settings, None, progress)


def require(name: str, instances: int, granted: Granted) -> None:
    """`UnsupportedError` where fewer than `instances` were granted to the model `name`."""
    if granted.count < instances:
        raise UnsupportedError(
            f"model {name!r} cannot run {instances} batches at the same time: {granted.why_fewer}; at most {granted.count} can"
        )


@lru_cache(maxsize=256)
def _warn(name: str, version: int, digest: str, warning: str) -> None:
    """Says it of a bundle once a process: a line on a terminal takes a tenth of what a small session takes to open."""
    log.warning("model %s version %d: %s", name, version, warning)

"""The bundles that a device may have: what is served and released, and of a rollout the version that its waves allow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from cloud_gateway.bundles import served_bundles
from cloud_gateway.registry import Registry
from cloud_gateway.rollout.store import RolloutStore
from runtime.bundle.bundle import Bundle
from runtime.errors import EdgewardError

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

log = logging.getLogger(__name__)


class DeviceOffers:
    """Asked by the routes of bundles, on a thread; blocking."""

    def __init__(
        self,
        engine: Engine,
        settled: Callable[[str], str | None],
        rollouts: RolloutStore,
        registry: Registry,
        first: Mapping[tuple[str, int], Bundle],
    ) -> None:
        """`settled`: the version of a model that releases let devices have; None: any.

        `first`: what was loaded at the start, for a version that devices still have and that is served and registered no more.
        """
        self._engine = engine
        self._settled = settled
        self._rollouts = rollouts
        self._registry = registry
        self._first = first

    def offered(self, device: str, models: Collection[str]) -> list[Bundle]:
        """For one device, empty where it does not say which it is; `models`: those that it keeps current."""
        # Before the database is asked: what is settled as promoted has its rollout there already.
        chosen = {name: self._settled(name) for name in {model.name for model in self._engine.models()}}
        ruled = self._rollouts.offered(device, [name for name in models if name in chosen])
        others = served_bundles(self._engine, lambda name: "" if name in ruled else chosen.get(name))
        return [*others, *(bundle for name, version in ruled.items() if (bundle := self.find(name, version)))]

    def find(self, model: str, version: int) -> Bundle | None:
        """A bundle that some device may have; None where there is none."""
        may_be = {(one.name, one.version): one for one in served_bundles(self._engine, self._settled)}
        if (model, version) in may_be:
            return may_be[model, version]
        if (model, version) not in self._rollouts.versions():
            return None
        served = {(one.name, one.version): one for one in served_bundles(self._engine, lambda _: None)}
        known = {**self._first, **served}
        if (model, version) in known:
            return known[model, version]
        try:
            return self._registry.bundle(model, version)
        except EdgewardError as error:
            log.warning("devices cannot be offered version %d of %s: %s", version, model, error)
            return None

    def names(self) -> list[str]:
        """What is offered to anybody, for people."""
        served = {(one.name, one.version) for one in served_bundles(self._engine, self._settled)}
        return [f"{name} {version}" for name, version in sorted(served | self._rollouts.versions())]

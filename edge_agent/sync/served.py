"""The agent's engine, as syncing sees it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import EdgewardError, ModelNotFoundError

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

log = logging.getLogger(__name__)


class EngineModels:
    """Loads bundles into a running engine; a version replaces the one before it without a failed call."""

    def __init__(self, engine: Engine, sources: Sequence[str]) -> None:
        self._engine = engine
        self._sources = tuple(sources)

    def digest(self, model: str) -> str | None:
        """Of the newest version in service."""
        try:
            return self._engine.model(model).bundle.digest
        except ModelNotFoundError:
            return None

    def in_use(self) -> list[Path]:
        """The folders of all bundles in service."""
        return [model.bundle.root for model in self._engine.models()]

    def switch(self, model: str, source: Path | None) -> None:
        """Serves `source`, or what the settings name; where they name nothing, nothing."""
        if source is not None:
            self._engine.load(source)
        elif (named := self._named(model)) is not None:
            self._engine.load(named)
        elif self.digest(model) is not None:
            self._engine.unload(model)

    def _named(self, model: str) -> str | None:
        """What the settings load that model from: its name in the repository, or the source of a bundle; None: they do not.

        Where one of their sources cannot be opened and no other is of that model, its error.
        """
        repository = self._engine.repository
        known = () if repository is None else repository.names()
        if model in known and (model in self._sources or not self._sources):
            return model
        from runtime import config
        from runtime.bundle.locate import open_bundles

        broken: EdgewardError | OSError | None = None
        for source in self._sources:
            if source in known:
                continue
            try:
                name = open_bundles(source, config.home() / "bundles")[-1].name
            except (EdgewardError, OSError) as error:
                log.warning("looking for model %s: %s cannot be opened and is passed over: %s", model, source, error)
                broken = broken or error
                continue
            if name == model:
                return source
        if broken is not None:  # it may be that very model
            raise broken
        return None

"""What a gateway loads when it starts: of models that are in its registry, the version that releases made the one to serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cloud_gateway.registry import Registry
from cloud_gateway.release.assembly import as_a_gateway
from cloud_gateway.settings import GatewaySettings
from runtime.bundle.locate import shipped_bundles
from runtime.store import open_database


def versions_to_serve(settings: GatewaySettings, home: Path) -> dict[str, int]:
    """Model → the version that the gateway's database says; blocking."""
    database = open_database(settings.database_url(home))
    try:
        return as_a_gateway(database).current()
    finally:
        database.dispose()


def with_registered_models(
    settings: GatewaySettings, registry: Registry, to_serve: Mapping[str, int]
) -> GatewaySettings:
    """The settings with models that are in the registry, and nowhere else, replaced by the folder of a version.

    The newest one, unless `to_serve` names another: the newest may be a candidate that was taken back, even one that does not load.
    """

    def source(name: str) -> str:
        if Path(name).exists() or name in shipped_bundles() or "/" in name or os.sep in name:
            return name
        if settings.model_repository is not None and (settings.model_repository / name).exists():
            return name
        known = [version.version for version in registry.versions(name)]
        if not known:
            return name
        chosen = to_serve.get(name)
        return str(registry.bundle(name, chosen if chosen in known else known[-1]).root)

    return settings.model_copy(update={"models": tuple(source(name) for name in settings.models)})

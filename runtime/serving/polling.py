"""Hot reload: looks at a model repository now and then, and loads what changed and unloads what went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.engine.repository import Fingerprint, Repository
from runtime.errors import EdgewardError
from runtime.serving.service import InferenceService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """What one look calls for."""

    load: tuple[str, ...]
    unload: tuple[str, ...]


def changes(
    served: Mapping[str, Fingerprint], before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]
) -> Changes:
    """What differs from what is `served` and is the same in two looks: a model that is still being copied waits."""
    settled = {name: print_ for name, print_ in now.items() if before.get(name) == print_}
    return Changes(
        load=tuple(name for name, print_ in settled.items() if served.get(name) != print_),
        unload=tuple(name for name in served if name not in now and name not in before),
    )


async def poll(
    service: InferenceService, repository: Repository, every_s: float, served: dict[str, Fingerprint]
) -> None:
    """Looks every `every_s` seconds until cancelled. `served`: the files as they were loaded; kept up to date.

    A model that fails to load is said once, and tried again when its files change; versions in service stay.
    """
    before: Mapping[str, Fingerprint] = served.copy()
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(repository.fingerprints)
        wanted = changes(served, before, now)
        before = now
        for name in wanted.load:
            served[name] = now[name]
            try:
                await service.load(name, {})
                log.info("model %s was loaded: its files changed", name)
            except EdgewardError as error:
                log.warning("model %s has changed, but does not load: %s", name, error)
        for name in wanted.unload:
            del served[name]
            try:
                await service.unload(name)
                log.info("model %s was unloaded: its folder is gone", name)
            except EdgewardError as error:
                log.warning("the folder of model %s is gone, but it is not unloaded: %s", name, error)

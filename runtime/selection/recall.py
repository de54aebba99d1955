"""The kept choice where nothing changed: all that a load needs of selection, once a model was measured here.

Imports nothing that measures: `select.choose` is for whoever has no such choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtime.backends.base import Backend
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Targets
from runtime.selection import cache
from runtime.selection.choice import Choice
from runtime.selection.decide import Goal
from runtime.selection.settings import SelectionSettings

NO_TARGETS: Final = Targets()
"""Of a bare file."""


def recall(
    bundle: Bundle, backends: Sequence[Backend], settings: SelectionSettings, cache_folder: Path
) -> Choice | None:
    """The kept choice where nothing changed on this machine and it names only `backends`; None otherwise, `choose` says why.

    For a quick start: to probe the machine, or to list the backends of other packages, takes as long as to open a small model.
    """
    seen = None if settings.refresh else cache.glance()
    if seen is None:
        return None
    question = cache.question_for(bundle, goal_for(bundle, settings), settings)
    return cache.recall(cache_folder, bundle, question, seen, backends)


def goal_for(bundle: Bundle, settings: SelectionSettings) -> Goal:
    """The manifest's targets, where `settings` does not say otherwise."""
    targets = bundle.manifest.targets if bundle.manifest is not None else NO_TARGETS
    floor, cap_mb = settings.accuracy_floor, settings.memory_cap_mb
    return Goal(
        settings.objective,
        targets.accuracy_floor if floor is None else floor,
        targets.memory_mb if cap_mb is None else cap_mb,
        targets,
    )

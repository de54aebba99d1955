"""The kept choice where nothing changed: all that a load needs of selection, once a model was measured here.

Imports nothing that measures: `select.choose` is for whoever has no such choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from runtime.backends.base import Backend
from runtime.bundle.bundle import Bundle
from runtime.bundle.same import Same
from runtime.selection import cache
from runtime.selection.choice import Choice
from runtime.selection.goal import goal_for
from runtime.selection.settings import SelectionSettings


def recall(
    bundle: Bundle, backends: Sequence[Backend], settings: SelectionSettings, cache_folder: Path
) -> Choice | None:
    """The kept choice where nothing changed on this machine and it names only `backends`; None otherwise, `choose` says why.

    For a quick start: to probe the machine, or to list the backends of other packages, takes as long as to open a small model.
    """
    seen = None if settings.refresh else cache.glance()
    if seen is None:
        return None
    return cache.recall(cache_folder, bundle, _question(Same(bundle), settings), seen, backends)


def kept_in(bundle: Bundle, settings: SelectionSettings, cache_folder: Path) -> str:
    """The path of the file that the choice would be kept in."""
    return cache.path_of(cache_folder, bundle.name, _question(Same(bundle), settings))


@lru_cache(maxsize=64)
def _question(of: Same, settings: SelectionSettings) -> str:
    (bundle,) = of.objects
    assert isinstance(bundle, Bundle)
    return cache.question_for(bundle, goal_for(bundle, settings), settings)

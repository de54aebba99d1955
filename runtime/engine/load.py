"""`edgeward.load`: one model for use inside this process, in no engine's table; loaded again it is only opened, see `again`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime import config
from runtime.engine.again import LastTime
from runtime.engine.engine import Engine
from runtime.engine.loader import Loader
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.versions import VersionPolicy

if TYPE_CHECKING:
    from runtime.selection.trying import Progress

MAX_SOURCES: Final = 64
"""Of which the last load is remembered; a program has a handful."""


def load(source: str | Path, settings: EngineSettings | None = None, progress: Progress | None = None) -> Model:
    """One model for use inside this process: chosen for this machine, closed by `Model.close` or `with`.

    The newest version of `source` (a bundle's folder or tar, a bare .onnx/.tflite/.pt2, or the name of a bundle that ships with
    Edgeward); the first time on a machine it is measured for a few seconds, later the cached choice is used. Unlike a served
    model it is not run before you call it: the first call allocates and takes longer; `Model.warm_up` takes that on itself.
    Daemon threads of yours have to be out of `predict` when the interpreter ends: it aborts or hangs inside most engines.
    """
    home = config.home() if settings is None or settings.home is None else None
    way = str(source), id(settings), home
    known = _SOURCES.get(way)
    if known is None:
        if len(_SOURCES) >= MAX_SOURCES:
            _SOURCES.clear()
        known = _SOURCES[way] = _Source(settings, home)
    return known.load(source, progress)


class _Source:
    """Loads one source in one way, time and again; any thread may ask."""

    def __init__(self, given: EngineSettings | None, home: Path | None) -> None:
        """By these very settings; `home` is where its choices are kept, None: where the settings say."""
        self._given = given
        """Kept alive, so that no others come to have their identity."""
        alone = replace(given or EngineSettings(), versions=VersionPolicy(), is_warmed_up=False)
        self._settings = settings = alone if home is None else replace(alone, home=home)
        self._loader = Loader(settings)
        self._last_time = LastTime()

    def load(self, source: str | Path, progress: Progress | None) -> Model:
        """The newest version, by what it came to at the last time where all is as it was then.

        A repository may have another model of that name by now, and is asked every time.
        """
        before = self._last_time.recall()
        if before is not None:
            return self._loader.make(before.bundle, before.choice)
        model = Engine(self._settings, progress=progress).load(source)
        self._loader = Loader(self._settings)  # the machine may be another by now
        if self._settings.repository is None:
            self._last_time.note(
                source, model.bundle, model.choice, self._settings.selection, self._loader.calibrations
            )
        return model


_SOURCES: Final[dict[tuple[str, int, Path | None], _Source]] = {}
"""What was loaded lately, by source, the identity of the settings, and home: to hash settings by what they say takes longer."""

"""How an engine chooses and keeps its models: values, of which every part is explained where it lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runtime.engine.instances import Instances
from runtime.engine.versions import VersionPolicy
from runtime.engine.watch_settings import WatchSettings
from runtime.selection.settings import SelectionSettings


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine chooses and keeps its models."""

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    versions: VersionPolicy = field(default_factory=VersionPolicy)
    repository: Path | None = None
    """A folder of models that may be loaded by name; None: only what was given to `Engine.load` once."""
    instances: Instances = field(default_factory=Instances)
    """How many calls of one model are to run at the same time."""
    watch: WatchSettings = field(default_factory=WatchSettings)
    """How closely models are watched while they serve."""
    is_warmed_up: bool = True
    """Whether a model is run before it is in service, so that the first caller does not wait longer than the others."""
    home: Path | None = None
    """Where calibrations and unpacked archives are kept; None: `config.home()`."""

"""What to choose by, and who asked for each part of it: the caller, the bundle's manifest, or nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Targets
from runtime.bundle.objective import Objective
from runtime.selection.settings import SelectionSettings

NO_TARGETS: Final = Targets()
"""Of a bare file."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Goal:
    """What to choose by."""

    objective: Objective = Objective.LATENCY
    accuracy_floor: float | None = None
    agreement_floor: float | None = None
    memory_cap_mb: float | None = None
    targets: Targets = field(default_factory=Targets)
    """Latency and throughput to reach: those who do come first, then the objective decides."""


class AskedBy(StrEnum):
    """Who asked for something."""

    CALLER = "asked for here"
    MANIFEST = "the manifest"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Wish:
    """One part of a goal, as people read it."""

    what: str
    value: str
    asked_by: AskedBy


def goal_for(bundle: Bundle, settings: SelectionSettings) -> Goal:
    """The manifest's targets, where `settings` does not say otherwise."""
    targets = _targets_of(bundle)
    return Goal(
        _first(settings.objective, targets.objective) or settings.usual_objective,
        _first(settings.accuracy_floor, targets.accuracy_floor),
        _first(settings.agreement_floor, targets.agreement_floor),
        memory_cap_mb(bundle, settings),
        _joined(settings, targets),
    )


def memory_cap_mb(bundle: Bundle, settings: SelectionSettings) -> float | None:
    """That of `goal_for`, alone."""
    if settings.memory_cap_mb is not None or bundle.manifest is None:
        return settings.memory_cap_mb
    return bundle.manifest.targets.memory_mb


def explain(bundle: Bundle, settings: SelectionSettings) -> list[Wish]:
    """Every part of the goal for `bundle` with who asked for it, in the order in which candidates have to pass them."""
    goal, targets = goal_for(bundle, settings), _targets_of(bundle)

    def wish(what: str, value: str | None, asked: object, declared: object) -> Wish:
        by = AskedBy.CALLER if asked is not None else AskedBy.DEFAULT if declared is None else AskedBy.MANIFEST
        return Wish(what, value or "none", by)

    return [
        wish("accuracy", _share(goal.accuracy_floor), settings.accuracy_floor, targets.accuracy_floor),
        wish("agreement", _share(goal.agreement_floor), settings.agreement_floor, targets.agreement_floor),
        wish("memory", _most(goal.memory_cap_mb, "MB"), settings.memory_cap_mb, targets.memory_mb),
        wish("p95 of one row", _most(goal.targets.p95_latency_ms, "ms"), settings.p95_ms, targets.p95_latency_ms),
        wish(
            "throughput",
            _least(goal.targets.throughput_rows_per_s, "rows/s"),
            settings.rows_per_s,
            targets.throughput_rows_per_s,
        ),
        wish("then the best", goal.objective.value, settings.objective, targets.objective),
    ]


def _targets_of(bundle: Bundle) -> Targets:
    return bundle.manifest.targets if bundle.manifest is not None else NO_TARGETS


def _joined(settings: SelectionSettings, targets: Targets) -> Targets:
    """`targets` themselves where nothing else is asked for: the same value then stays the same object."""
    asked = {"p95_latency_ms": settings.p95_ms, "throughput_rows_per_s": settings.rows_per_s}
    given = {key: value for key, value in asked.items() if value is not None}
    return targets.model_copy(update=given) if given else targets


def _first(asked: T | None, declared: T | None) -> T | None:
    return declared if asked is None else asked


def _share(share: float | None) -> str | None:
    return None if share is None else f"at least {100 * share:.1f} %"


def _most(value: float | None, unit: str) -> str | None:
    return None if value is None else f"at most {value:g} {unit}"


def _least(value: float | None, unit: str) -> str | None:
    return None if value is None else f"at least {value:g} {unit}"

"""What the watch of a model found and did since the model was loaded, and what took over from what: counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import NamedTuple, TypeVar

from runtime.engine.drift import Verdict

Counted = TypeVar("Counted")


class Tally(Counter[Counted]):
    """A `Counter` that is made as a `dict` is: its own way is two calls longer, and a load makes three of them."""

    __init__ = dict.__init__


class Outcome(StrEnum):
    """What came of measuring again."""

    SWITCHED = "switched"
    KEPT = "kept"
    FAILED = "failed"


class SwitchReason(StrEnum):
    """Why another candidate answers."""

    LOST = "lost"
    """The device or engine of the one before is gone."""
    QUARANTINED = "quarantined"
    """Its answers were wrong too often."""
    MEASURED_AGAIN = "measured_again"
    """Another one was faster when they were measured again."""


class Switch(NamedTuple):
    """One candidate took over from another; both in words."""

    before: str
    after: str
    reason: SwitchReason


@dataclass(slots=True)
class WatchTotals:
    """What was found since the model was loaded."""

    shadow_checks: int = 0
    disagreements: int = 0
    """Checks in which at least one row disagreed with the reference."""
    shadow_failures: int = 0
    """Checks that could not be made: the reference did not open or run."""
    quarantined: int = 0
    """Candidates taken out of service because their answers were wrong too often."""
    recalibrations: int = 0
    failures: int = 0
    """Checks, quarantines and recalibrations that came to nothing; the log says why."""
    shadow: str = ""
    """Why there are no shadow checks, where there are none."""
    last_reason: str = ""
    """Of the last quarantine or recalibration."""
    verdicts: Tally[Verdict] = field(default_factory=Tally)
    """Looks at how long calls take, by what they found."""
    recalibrated: Tally[tuple[Verdict, Outcome]] = field(default_factory=Tally)
    """Recalibrations that ended, by what they were for and what came of them."""

    def to_dict(self) -> dict[str, int | str]:
        """The numbers, the reasons where there are any, and the looks as `looks_slower` and the like."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        del plain["verdicts"], plain["recalibrated"]
        looks = {f"looks_{verdict}": count for verdict, count in sorted(self.verdicts.items())}
        return {**{key: value for key, value in plain.items() if value != ""}, **looks}

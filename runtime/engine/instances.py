"""How many calls of one model are to run at the same time, as somebody wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runtime.errors import WrongUseError

MAX_INSTANCES: Final = 64
"""Each is a thread, and with some engines a session; more than a large machine has cores for."""


@dataclass(frozen=True, slots=True)
class Instances:
    """How many are wished for: of every model, or of some by name."""

    everywhere: int = 1
    """Engines use every allowed core for one call already."""
    by_model: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Instances:
        """From "2", "digits=4" or "2,digits=4"; `WrongUseError` otherwise."""
        everywhere, by_model = 1, {}
        for part in text.split(","):
            name, _, number = part.strip().rpartition("=")
            count = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
            if not 1 <= count <= MAX_INSTANCES or (not name and "=" in part):
                raise WrongUseError(
                    f"instances {text!r:.80}: {part!r:.40} is not understood; expected a number from 1 to {MAX_INSTANCES}, "
                    'for all models ("2") or for one ("digits=4"), separated by commas'
                )
            if name:
                by_model[name] = count
            else:
                everywhere = count
        return cls(everywhere, by_model)

    def __str__(self) -> str:
        return ",".join([str(self.everywhere), *(f"{name}={count}" for name, count in sorted(self.by_model.items()))])

    def of(self, model: str) -> int:
        """How many of that model."""
        return self.by_model.get(model, self.everywhere)

"""Above which confidence a model may answer by itself, so that of those answers no more than the wished share is wrong.

For each of a few fixed thresholds an e-process against "of the answers at least so confident, more than that share is wrong",
fed by blind answers of people (betting: Waudby-Smith and Ramdas 2023). Thresholds chosen by tests of their risk: Geifman and
El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017; Angelopoulos et al., "Learn then test",
arXiv:2110.01052. Alpha is divided among the thresholds, so whichever is taken, at whatever time, holds. The confidence need
not be a probability: it is calibrated by what people say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from runtime.sequential import BettingMixture

THRESHOLDS: Final = (0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)
"""From the strictest down. Softmax outputs crowd near 1, so the steps are finer there."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What is known at one of them."""

    confidence: float
    answers: int
    """Blind answers of people where the model was at least so confident."""
    wrong: float
    is_proven: bool
    share: float
    """Of all blind answers: how much the model would answer by itself."""


class SelectiveRisk:
    """The e-processes of all thresholds; pure, O(1) for each answer, state as JSON."""

    def __init__(self, risk: float, alpha: float) -> None:
        self.risk = risk
        self.alpha = alpha
        self.answers = 0
        self._counts = [0] * len(THRESHOLDS)
        self._wrong = [0.0] * len(THRESHOLDS)
        self._tests = [BettingMixture(-risk, -1.0) for _ in THRESHOLDS]

    def observe(self, confidence: float, loss: float) -> None:
        """A person answered blind, an item that was chosen without regard to the model: its confidence, and its loss, 0 to 1."""
        self.answers += 1
        for at, threshold in enumerate(THRESHOLDS):
            if confidence >= threshold:
                self._counts[at] += 1
                self._wrong[at] += loss
                self._tests[at].observe(-loss)

    @property
    def threshold(self) -> float | None:
        """The lowest confidence at which the risk is proven to be as low as wished; None: at none yet."""
        needed = len(THRESHOLDS) / self.alpha
        proven = [at for at, test in zip(THRESHOLDS, self._tests, strict=True) if test.e_value >= needed]
        return min(proven, default=None)

    def describe(self) -> list[Threshold]:
        """Every threshold, the strictest first."""
        needed = len(THRESHOLDS) / self.alpha
        return [
            Threshold(
                confidence,
                self._counts[at],
                self._wrong[at],
                self._tests[at].e_value >= needed,
                self._counts[at] / self.answers if self.answers else 0.0,
            )
            for at, confidence in enumerate(THRESHOLDS)
        ]

    def to_state(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "risk": self.risk,
            "alpha": self.alpha,
            "answers": self.answers,
            "counts": list(self._counts),
            "wrong": list(self._wrong),
            "tests": [test.to_state() for test in self._tests],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that `to_state` was asked of."""
        made = cls(state["risk"], state["alpha"])
        made.answers = state["answers"]
        made._counts, made._wrong = list(state["counts"]), list(state["wrong"])
        made._tests = [BettingMixture.from_state(test) for test in state["tests"]]
        return made

"""Whether answers disagree with the reference's more often than the calibration allowed: a sequential test, pure.

Page's CUSUM ("Continuous inspection schemes", Biometrika 1954), a sequential probability ratio test that starts over
whenever it would find nothing: it stays quick however long all was well before.
"""

from __future__ import annotations

import math
from typing import Final

from runtime.selection.decide import DEFAULT_AGREEMENT

MIN_ALLOWED: Final = 0.01
"""Share of answers that may differ although none did on the samples: a few hundred samples cannot show less."""
EXCESS: Final = 0.1
"""What is looked for beyond what is allowed. The guard, too, calls 10 % the bound where no floor is given."""
ALARM: Final = math.log(1_000_000)
"""With no more disagreement than allowed, an alarm comes on average after a million checks at the earliest (Lorden,
Annals of Mathematical Statistics 1971: at least exp of the bound), a thousand million calls at one check in 1,000. Of
answers that are all wrong it takes six checks."""


class DisagreementTest:
    """Takes the share of rows that disagreed in each check, one check after the other. Not thread-safe."""

    def __init__(self, agreement: float | None) -> None:
        """`agreement`: share of rows in which the candidate agreed when it was calibrated; None: not known, then the
        guard's own bound.
        """
        self.allowed = min(max(1 - (DEFAULT_AGREEMENT if agreement is None else agreement), MIN_ALLOWED), 0.8)
        """Share of rows that may disagree."""
        excessive = min(self.allowed + max(EXCESS, self.allowed), 0.95)
        self._if_wrong = math.log(excessive / self.allowed)
        self._if_right = math.log((1 - excessive) / (1 - self.allowed))
        self._sum = 0.0
        self.checks = 0

    def is_sustained(self, disagreeing: float) -> bool:
        """Whether, with one more check whose share of rows `disagreeing`, there are too many of them.

        A check counts once however many rows it has: the rows of one call are often alike.
        """
        self.checks += 1
        self._sum = max(0.0, self._sum + disagreeing * self._if_wrong + (1 - disagreeing) * self._if_right)
        return self._sum >= ALARM

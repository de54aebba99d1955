"""A second copy of stable, for the noise floor: how far two sessions of one model differ on this machine.

An engine picks kernels, partitions and algorithms when it opens a model, so two sessions may differ for good where one, asked
twice, repeats itself to the bit. The candidate has a session of its own: without a change it differs from stable by that much.
"""

from __future__ import annotations

import logging

from runtime.engine.model import Model
from runtime.errors import EdgewardError

log = logging.getLogger(__name__)

COPY = "a second copy of stable"
SAME = "stable itself, asked again"


class SecondCopy:
    """Opened when it is first asked for, on the caller's thread, which it takes as long as loading stable did."""

    def __init__(self, stable: Model, *, is_wanted: bool = True) -> None:
        """Unless `is_wanted`, or where it cannot be had, stable itself stands in for it."""
        self.noise_from = COPY if is_wanted else SAME
        """What the noise floor is measured with."""
        self._stable = stable
        self._is_wanted = is_wanted
        self._copy: Model | None = None

    def model(self) -> Model:
        """The copy, opened as stable is by now."""
        if not self._is_wanted:
            return self._stable
        if self._copy is not None and self._copy.candidate == self._stable.candidate:
            return self._copy
        self.close()
        try:
            copy = Model(self._stable.bundle, self._stable.choice)
            copy.warm_up()
        except EdgewardError as error:
            log.warning("model %s: the noise floor is measured with one copy of stable: %s", self._stable.name, error)
            self._is_wanted, self.noise_from = False, f"{SAME}: a second copy cannot be had: {error}"
            return self._stable
        if copy.candidate != self._stable.candidate:
            # Stable is on something that its choice did not put first, such as after a device was lost.
            copy.close()
            self._is_wanted, self.noise_from = False, f"{SAME}: a second copy would run on {copy.serving}"
            return self._stable
        self._copy = copy
        return copy

    def close(self) -> None:
        """Its memory goes."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None

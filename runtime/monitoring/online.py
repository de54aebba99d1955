"""Online detectors of river on one number a row: ADWIN and Page-Hinkley, where the extra `drift` is installed; never rewritten."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from runtime.errors import WrongUseError


class Online(StrEnum):
    """Which detector."""

    ADWIN = "adwin"
    PAGE_HINKLEY = "page-hinkley"


class OnlineDetector:
    """Takes numbers one by one, such as the confidence or the loss of each answer. Its false alarms are not held to our budget."""

    def __init__(self, which: Online) -> None:
        try:
            from river import drift
        except ImportError as error:
            raise WrongUseError(
                f"the detector {which} comes from river, which is not installed; install edgeward[drift]"
            ) from error
        self._detector: Any = drift.ADWIN() if which is Online.ADWIN else drift.PageHinkley()

    def update(self, value: float) -> bool:
        """Whether this value shows a change."""
        self._detector.update(value)
        return bool(self._detector.drift_detected)

"""Who answers what now: the releases of a gateway by model, and who is told of answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cloud_gateway.guards import Arm
from cloud_gateway.release.active import MOST_KEPT_FOR_REPORT, ActiveRelease
from cloud_gateway.release.mirrored import Mirrored
from cloud_gateway.release.request_log import Asked, RequestLog
from runtime.tensors import Array

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer within a release, for whoever keeps answers until labels come."""

    model: str
    version: str
    release: int
    arm: Arm
    request_id: str
    segment: str
    outputs: Mapping[str, Array]
    is_shadow: bool
    """Nobody was sent it: the candidate's answer beside stable's."""


@dataclass
class Traffic:
    """What the service and the controller share, on one event loop: who answers what now."""

    active: dict[str, ActiveRelease] = field(default_factory=dict)
    """By model."""
    pins: dict[str, str] = field(default_factory=dict)
    """Model → the version that answers requests which name none; without it the engine's newest does."""
    log: RequestLog | None = None
    """Told of every request that names no version."""
    on_answer: Callable[[Answered], None] | None = None
    """Told of every answer within a release whose guards wait for labels, and of both answers to a bounded number of requests that
    a shadow compared; must be quick. What it raises costs that answer alone (`ActiveRelease.note_untold`)."""

    def settled(self, model: str) -> str | None:
        """The version that has a model's traffic for good: stable until its release has ended; None: no release ever said."""
        active = self.active.get(model)
        return self.pins.get(model) if active is None else str(active.split.stable)

    def tell(self, mirrored: Mirrored, active: ActiveRelease) -> None:
        """Tells the log of a mirrored request, and `on_answer` what the version said to it that did not have its caller.

        Where only a shadow's report waits for labels, the answer that the caller had too: nothing else of that release is kept.
        """
        if self.log is not None and isinstance(mirrored.about, Asked):
            self.log.write(mirrored.about, mirrored)
        is_for_report = active.left_for_report > 0 and bool(mirrored.request_id)
        if self.on_answer is None or not (active.waits_for_labels or is_for_report):
            return
        split = active.split
        if is_for_report:
            self._count_for_report(active)
        for arm, outputs in ((Arm.STABLE, mirrored.stable_outputs), (Arm.CANDIDATE, mirrored.candidate_outputs)):
            is_shadow = arm is not mirrored.answered
            if outputs is None or not (is_shadow or is_for_report):
                continue
            self.on_answer(
                Answered(
                    split.model,
                    split.version(arm),
                    split.release,
                    arm,
                    mirrored.request_id,
                    mirrored.segment,
                    outputs,
                    is_shadow,
                )
            )

    def tell_left(self, about: object) -> None:
        """Tells the log of a request that was to be mirrored, and was not: as its caller was answered."""
        if self.log is not None and isinstance(about, Asked):
            self.log.write(about)

    def _count_for_report(self, active: ActiveRelease) -> None:
        active.left_for_report -= 1
        if not active.left_for_report:
            log.warning(
                "release %d of %s: %d compared requests are kept until labels come, no more; a guard on losses keeps all",
                active.split.release,
                active.split.model,
                MOST_KEPT_FOR_REPORT,
            )

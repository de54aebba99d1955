"""Answers of a release kept until their labels come: by request id, the newest so many, in this process's memory.

Kept only where a guard of the plan looks at losses. A label counts once; a gateway that ends forgets what it kept, and says of a
label for it that the request is unknown.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cloud_gateway.automation.answers import Answer, check_answer, loss, suggestion_of
from cloud_gateway.guards import Arm, LabelledObservation, Metric
from cloud_gateway.release.service import Answered, Traffic
from runtime.errors import InvalidInputError

# An hour at 50 requests a second; some 60 MB.
MAX_KEPT: Final = 200_000


class Taken(StrEnum):
    """What became of a label."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    """One came before for this request; the first one stands."""
    UNKNOWN = "unknown"
    """No such request was answered in a release that runs, or it is too long ago."""


@dataclass(slots=True)
class _Kept:
    segment: str
    said: dict[Arm, Answer] = field(default_factory=dict)
    is_labelled: bool = False


class ReleaseLabels:
    """Used on the event loop."""

    def __init__(self, traffic: Traffic, max_kept: int = MAX_KEPT) -> None:
        self._traffic = traffic
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[str, int, str], _Kept] = OrderedDict()

    def remember(self, answered: Answered) -> None:
        """Keeps an answer, where labels mean something for it; what has no class or number to compare is left."""
        if not answered.request_id or not self._wants(answered.model):
            return
        try:
            said = suggestion_of(answered.outputs).answer
        except InvalidInputError:
            return
        key = (answered.model, answered.release, answered.request_id)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(answered.segment)
            if len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        kept.said.setdefault(answered.arm, said)

    def take(self, model: str, request_id: str, label: object) -> Taken:
        """Takes a label in; `InvalidInputError` for one that is none, or not one for each row."""
        truth = check_answer(label)
        active = self._traffic.active.get(model)
        kept = None if active is None else self._kept.get((model, active.release.id, request_id))
        if active is None or kept is None:
            return Taken.UNKNOWN
        if kept.is_labelled:
            return Taken.KNOWN
        losses = {arm: loss(said, truth) for arm, said in kept.said.items()}
        if all(value is None for value in losses.values()):
            raise InvalidInputError(
                f"label {label!r:.80} does not say whether {next(iter(kept.said.values()))!r:.80} is right"
            )
        kept.is_labelled = True
        active.note(LabelledObservation(losses.get(Arm.STABLE), losses.get(Arm.CANDIDATE), kept.segment))
        return Taken.ACCEPTED

    def _wants(self, model: str) -> bool:
        active = self._traffic.active.get(model)
        return active is not None and any(guard.metric is Metric.LOSS for guard in active.release.plan.guards)

"""Is the model still right? By labels, late and few as they come; without, by an estimate that says what it assumes. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from runtime.monitoring.moments import Numbers
from runtime.monitoring.tails import log_share_tail

LOOK_EVERY: Final = 20
"""Labels between two looks."""
STRETCHES: Final = (20, 40, 80, 160, 320, 640, 1280, 2560)
MIN_DROP: Final = 0.01
MAX_REMEMBERED: Final = 10_000
LEARN_LABELS: Final = 100
"""First labelled answers that are the reference of a model whose bundle has no labelled samples."""
LEAST_CALM: Final = 80
"""Newest labels that must be right again before a loss is over: of fewer, a good stretch is chance."""
ASSUMPTIONS: Final = (
    "holds while rows of one confidence are right as often as in the bundle's samples (covariate shift); when what is "
    "right for an input changes (concept shift), or the model is sure of inputs unlike any it knew, only labels show it"
)


@dataclass(frozen=True, slots=True)
class Loss:
    """The newest `rows` labelled answers are right less often than the reference, by more than chance."""

    accuracy: float
    reference_accuracy: float
    rows: int
    log_p: float
    log_limit: float
    since: float
    """When the first of those rows was answered."""

    def __str__(self) -> str:
        return (
            f"{self.accuracy:.1%} of the newest {self.rows} labelled answers are right, "
            f"{self.reference_accuracy:.1%} of the reference"
        )


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answered row and its truth; whether the two are the same is the caller's to say, for numbers may differ a little."""

    answer_id: str
    predicted: str
    label: str
    is_right: bool
    answered_at: float
    """On the caller's clock, whichever it is."""


class LabelledPerformance:
    """A sequential test of accuracy on labels in the order they come. Not thread-safe.

    Every twenty labels is a look, and look k may spend alpha / (k (k + 1)) on Fisher's exact test of the newest 20, 40, 80, ...
    answers against the reference: the chance of ever a false alarm is at most `alpha`. Labels may be any part of the answers, as
    long as which part does not depend on whether they are right.
    """

    def __init__(self, right: int, rows: int, alpha: float = 0.05) -> None:
        """`right` of `rows` reference answers were; of none, the first `LEARN_LABELS` labelled answers become the reference."""
        self.labels = 0
        self.right = 0
        self.contradictions = 0
        """Answers that got two different labels: neither counts."""
        self.loss: Loss | None = None
        """What the newest labels show; None again once they are as right as the reference."""
        self.is_learning = rows == 0
        self.looks = 0
        self._reference = (right, rows)
        self._alpha = alpha
        self._shown_by = 0
        """Labels that the loss was first seen in."""
        self._newest: deque[Labelled] = deque(maxlen=STRETCHES[-1])
        self._known: OrderedDict[str, Labelled | None] = OrderedDict()
        """By answer; None: its labels contradict each other."""

    @property
    def reference(self) -> tuple[int, int]:
        """Right answers, and answers, that the newest are held against; while it learns, those seen so far."""
        return self._reference

    def add(self, one: Labelled) -> Loss | None:
        """Takes one label; the loss when this one shows it first. The same label again says nothing new."""
        if one.answer_id in self._known:
            before = self._known[one.answer_id]
            if before is not None and before.label != one.label:
                self.contradictions += 1
                self._take_back(before)
            return None
        self._known[one.answer_id] = one
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        self.labels += 1
        self.right += one.is_right
        if self.is_learning:
            right, rows = self._reference
            self._reference = (right + one.is_right, rows + 1)
            self.is_learning = rows + 1 < LEARN_LABELS
            return None
        self._newest.append(one)
        return self._look() if self.labels % LOOK_EVERY == 0 else None

    def newest(self, most: int) -> list[Labelled]:
        """The last ones that are held against the reference, oldest first."""
        return list(self._newest)[-most:]

    def _take_back(self, one: Labelled) -> None:
        self._known[one.answer_id] = None
        self.labels -= 1
        self.right -= one.is_right
        # What has become reference stays in it: one row of a hundred moves no verdict.
        self._newest = deque((kept for kept in self._newest if kept.answer_id != one.answer_id), maxlen=STRETCHES[-1])

    def _look(self) -> Loss | None:
        self.looks += 1
        right, rows = self._reference
        stretches = [length for length in STRETCHES if length <= len(self._newest)]
        if not rows or not stretches:
            return None
        limit = math.log(self._alpha) - math.log(self.looks) - math.log(self.looks + 1) - math.log(len(stretches))
        entries = list(self._newest)
        found: Loss | None = None
        for length in stretches:
            part = entries[-length:]
            hits = sum(entry.is_right for entry in part)
            if hits / length >= right / rows - MIN_DROP:
                continue
            counts = (np.array(float(value)) for value in (hits, length, right, rows))
            log_p = float(log_share_tail(*counts))
            if log_p <= limit and (found is None or log_p < found.log_p):
                began = min(entry.answered_at for entry in part)
                found = Loss(hits / length, right / rows, length, log_p, limit, began)
        before = self.loss
        if before is not None and self._is_over(before):
            # What was told is told: the wrong answers before do not count a second time.
            self.loss = None
            self._newest.clear()
            return None
        if found is None:
            return None
        if before is None:
            self.loss, self._shown_by = found, found.rows
            return found
        self.loss = replace(found, since=min(found.since, before.since))
        return None

    def _is_over(self, loss: Loss) -> bool:
        """Whether as many labels as first showed it, and not fewer than `LEAST_CALM`, are right more than half the way back."""
        part = self.newest(max(self._shown_by, LEAST_CALM))
        return sum(one.is_right for one in part) / len(part) > (loss.accuracy + loss.reference_accuracy) / 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """How often answers are probably right, without labels."""

    accuracy: float
    """The share right among samples of each confidence, weighted by how often that confidence comes now."""
    threshold_accuracy: float
    """Average thresholded confidence (Garg et al. 2022): the share above what as many samples exceed as are right."""
    sample_accuracy: float
    mean_confidence: float
    assumptions: str = ASSUMPTIONS

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "accuracy": round(self.accuracy, 5),
            "threshold_accuracy": round(self.threshold_accuracy, 5),
            "sample_accuracy": round(self.sample_accuracy, 5),
            "mean_confidence": round(self.mean_confidence, 5),
            "assumptions": self.assumptions,
        }


def estimate_accuracy(
    sample_confidence: Numbers, is_right: npt.NDArray[np.bool_], live_confidence: Numbers
) -> Estimate:
    """From the confidence of samples whose answers are known to be right or wrong, and of live answers."""
    live = live_confidence[np.isfinite(live_confidence)]
    accuracy = float(is_right.mean())
    bins = max(2, min(10, len(is_right) // 40))
    edges = np.unique(np.quantile(sample_confidence, np.arange(1, bins) / bins))
    places = np.searchsorted(edges, sample_confidence, side="right")
    count = np.bincount(places, minlength=len(edges) + 1)
    # One imagined answer of average accuracy in each bin: an empty one says what the whole says.
    right = (np.bincount(places, is_right, minlength=len(edges) + 1) + accuracy) / (count + 1)
    weights = np.bincount(np.searchsorted(edges, live, side="right"), minlength=len(edges) + 1) / max(len(live), 1)
    threshold = float(np.quantile(sample_confidence, 1 - accuracy))
    above = float((live >= threshold).mean()) if len(live) else 0.0
    return Estimate(float((weights * right).sum()), above, accuracy, float(live.mean()) if len(live) else 0.0)

"""Is the model still right? By labels, late and few as they come; without, by an estimate that says what it assumes. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
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


class LabelledPerformance:
    """A sequential test of accuracy on labels in the order they come. Not thread-safe.

    Every twenty labels is a look, and look k may spend alpha / (k (k + 1)) on Fisher's exact test of the newest 20, 40, 80, ...
    answers against the reference: the chance of ever a false alarm is at most `alpha`. Labels may be any part of the answers, as
    long as which part does not depend on whether they are right.
    """

    def __init__(self, right: int, rows: int, alpha: float = 0.05) -> None:
        """`right` of `rows` reference answers were."""
        self.labels = 0
        self.right = 0
        self.contradictions = 0
        """Answers that got two different labels: neither counts."""
        self.loss: Loss | None = None
        self._reference = (right, rows)
        self._alpha = alpha
        self._looks = 0
        self._newest: deque[tuple[bool, float, str]] = deque(maxlen=STRETCHES[-1])
        self._labels: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def add(self, answer_id: str, predicted: str, label: str, answered_at: float) -> Loss | None:
        """Takes one label; the loss when this one shows it first. The same label again says nothing new."""
        before = self._labels.get(answer_id)
        if before is not None:
            if before[1] not in (label, ""):
                self.contradictions += 1
                self._take_back(answer_id, is_right=before[0] == before[1])
                self._labels[answer_id] = (before[0], "")
            return None
        self._labels[answer_id] = (predicted, label)
        while len(self._labels) > MAX_REMEMBERED:
            self._labels.popitem(last=False)
        is_right = predicted == label
        self.labels += 1
        self.right += is_right
        self._newest.append((is_right, answered_at, answer_id))
        return self._look() if self.labels % LOOK_EVERY == 0 else None

    def _take_back(self, answer_id: str, *, is_right: bool) -> None:
        self.labels -= 1
        self.right -= is_right
        self._newest = deque((entry for entry in self._newest if entry[2] != answer_id), maxlen=STRETCHES[-1])

    def _look(self) -> Loss | None:
        self._looks += 1
        right, rows = self._reference
        stretches = [length for length in STRETCHES if length <= len(self._newest)]
        if not rows or not stretches:
            return None
        limit = math.log(self._alpha) - math.log(self._looks) - math.log(self._looks + 1) - math.log(len(stretches))
        entries = list(self._newest)
        found: Loss | None = None
        for length in stretches:
            part = entries[-length:]
            hits = sum(entry[0] for entry in part)
            if hits / length >= right / rows - MIN_DROP:
                continue
            counts = (np.array(float(value)) for value in (hits, length, right, rows))
            log_p = float(log_share_tail(*counts))
            if log_p <= limit and (found is None or log_p < found.log_p):
                found = Loss(hits / length, right / rows, length, log_p, limit, min(entry[1] for entry in part))
        is_new = found is not None and self.loss is None
        self.loss = found or self.loss
        return found if is_new else None


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

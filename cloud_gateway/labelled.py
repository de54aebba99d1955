"""How right each served version is by the labels that come in: held against its bundle's labelled samples, label by label.

Of a version that is not served here any more nobody asks how right it is, and of a bundle that took another's place under
the same version the labels before say nothing: both begin anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud_gateway.automation.labels import LabelledAnswer
from runtime.engine.model import Model
from runtime.monitoring.concept import describe_labelled
from runtime.monitoring.performance import LabelledPerformance
from runtime.monitoring.verdict import Verdict
from runtime.serving.beside import LabelsOf
from runtime.serving.sample_reference import sample_reference
from runtime.telemetry.exposition import Family, Kind

log = logging.getLogger(__name__)

Drifting = Callable[[], Mapping[tuple[str, int], Sequence[Verdict]]]
"""What drifts of what each model and version is asked."""

ACCURACY: Final = "edgeward_labelled_accuracy_ratio"
REFERENCE: Final = "edgeward_labelled_reference_ratio"
LABELS: Final = "edgeward_labelled_rows"
WORSE: Final = "edgeward_concept_drift"


@dataclass(frozen=True, slots=True)
class _Tracked:
    digest: str
    performance: LabelledPerformance
    source: str
    """What the reference is, for people."""


class LabelledAnswers:
    """`take` and `document` may be called from any thread; the first label of a version blocks until its samples have run."""

    def __init__(self, models: Callable[[], Sequence[Model]], drifting: Drifting) -> None:
        self._models = models
        self._drifting = drifting
        self._lock = threading.Lock()
        self._tracked: dict[tuple[str, int], _Tracked] = {}

    def take(self, answer: LabelledAnswer) -> None:
        """Takes the labelled rows of one request; of a version that is not served now nothing is kept."""
        found = next(
            (one for one in self._models() if (one.name, str(one.version)) == (answer.model, answer.version)), None
        )
        if found is None:
            return
        with self._lock:
            performance = self._performance(found)
            for row in answer.rows:
                loss = performance.add(row)
                if loss is not None:
                    log.warning("model %s version %s is worse by its labels: %s", answer.model, answer.version, loss)

    def document(self) -> dict[str, Any]:
        """What labels say, as JSON."""
        return {"models": self._described()}

    def families(self, labels_of: LabelsOf) -> list[Family]:
        """The same as metrics."""
        told = [
            (
                {"model": one["model"], "version": str(one["version"]), **labels_of(one["model"], str(one["version"]))},
                one,
            )
            for one in self._described()
        ]
        known = [(labels, one) for labels, one in told if one["accuracy"] is not None]
        learnt = [(labels, one) for labels, one in told if one["learning"] is None]
        return [
            Family(LABELS, Kind.GAUGE, "Answered rows that got a label.", [(at, one["labels"]) for at, one in told]),
            Family(
                ACCURACY,
                Kind.GAUGE,
                "Share right of the newest labelled answers, 320 at most.",
                [(at, one["accuracy"]) for at, one in known],
            ),
            Family(
                REFERENCE,
                Kind.GAUGE,
                "Share right of what those are held against.",
                [(at, one["reference"]["accuracy"]) for at, one in learnt],
            ),
            Family(
                WORSE,
                Kind.GAUGE,
                "1 while labels show a model less right than its reference, by more than chance.",
                [(at, int(one["is_worse"])) for at, one in learnt],
            ),
        ]

    def _described(self) -> list[dict[str, Any]]:
        drifting = self._drifting()
        served = {(one.name, one.version): one.bundle.digest for one in self._models()}
        with self._lock:
            self._tracked = {at: one for at, one in self._tracked.items() if served.get(at) == one.digest}
            return [
                {
                    "model": model,
                    "version": version,
                    "reference_source": one.source,
                    **describe_labelled(one.performance, drifting.get((model, version), ())),
                }
                for (model, version), one in self._tracked.items()
            ]

    def _performance(self, model: Model) -> LabelledPerformance:
        key = (model.name, model.version)
        tracked = self._tracked.get(key)
        if tracked is None or tracked.digest != model.bundle.digest:
            samples = sample_reference(model).accuracy
            if samples is None:
                made = _Tracked(model.bundle.digest, LabelledPerformance(0, 0), "its first labels")
            else:
                made = _Tracked(
                    model.bundle.digest, LabelledPerformance(samples.right, samples.rows), "the bundle's samples"
                )
            tracked = self._tracked[key] = made
        return tracked.performance

"""How right each served version is by the labels that come in: held against its bundle's labelled samples, label by label, and
where it errs (`monitoring.error_log`).

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
from cloud_gateway.automation.row_details import RowDetails
from runtime.engine.model import Model
from runtime.monitoring.concept import describe_labelled
from runtime.monitoring.error_log import ErrorLog, SeenRow
from runtime.monitoring.performance import LabelledPerformance
from runtime.monitoring.row_bins import NOWHERE, bin_words, binned_features
from runtime.monitoring.verdict import Verdict
from runtime.serving.metrics.labels import LabelsOf
from runtime.serving.observing.sample_reference import sample_reference
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
    errors: ErrorLog
    baseline_key: str
    features: Sequence[str]
    """Whose bins are kept of each row."""
    words: Sequence[Sequence[str]]
    """What each feature's bins are called."""

    def seen(self, answer: LabelledAnswer) -> list[SeenRow]:
        """The rows of an answer with what was kept of them; bins that are another bundle's say nothing here."""
        details = answer.details
        sure = details.get("confidence") or ()
        bins = details.get("bins", ()) if details.get("baseline") == self.baseline_key else ()
        found = []
        for row, place in zip(answer.rows, answer.places, strict=True):
            groups = {f"tag {name} =": word for name, word in answer.tags.items()}
            if place < len(bins):
                groups |= {
                    name: "is missing or not finite" if at == NOWHERE else words[at]
                    for name, words, at in zip(self.features, self.words, bins[place], strict=True)
                }
            found.append(SeenRow(row, answer.request_id, place, sure[place] if place < len(sure) else None, groups))
        return found


class LabelledAnswers:
    """`take` and `document` may be called from any thread; the first label of a version blocks until its samples have run."""

    def __init__(
        self, models: Callable[[], Sequence[Model]], drifting: Drifting, details: RowDetails | None = None
    ) -> None:
        """`details`: by which what was kept of rows is read."""
        self._models = models
        self._details = RowDetails() if details is None else details
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
            tracked = self._track(found)
            for row in answer.rows:
                loss = tracked.performance.add(row)
                if loss is not None:
                    log.warning("model %s version %s is worse by its labels: %s", answer.model, answer.version, loss)
            for seen in tracked.seen(answer):
                tracked.errors.add(seen)

    def document(self) -> dict[str, Any]:
        """What labels say, and where the models err, as JSON."""
        return {"models": self._described(with_errors=True)}

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

    def _described(self, *, with_errors: bool = False) -> list[dict[str, Any]]:
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
                    **({"errors": one.errors.document()} if with_errors else {}),
                }
                for (model, version), one in self._tracked.items()
            ]

    def _track(self, model: Model) -> _Tracked:
        key = (model.name, model.version)
        tracked = self._tracked.get(key)
        if tracked is None or tracked.digest != model.bundle.digest:
            samples = sample_reference(model).accuracy
            if samples is None:
                performance, source = LabelledPerformance(0, 0), "its first labels"
            else:
                performance, source = LabelledPerformance(samples.right, samples.rows), "the bundle's samples"
            baseline = self._details.baseline(model.name, str(model.version))
            binned = [] if baseline is None else binned_features(baseline)
            tracked = self._tracked[key] = _Tracked(
                model.bundle.digest,
                performance,
                source,
                ErrorLog(model.bundle.class_names()),
                "" if baseline is None else baseline.key,
                [feature.name for feature, _ in binned],
                [bin_words(reference) for _, reference in binned],
            )
        return tracked

"""One model as it is watched: windows in, looks taken, verdicts and a document out. Pure; whoever has a clock calls it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.decision import MIN_ROWS, Against, DriftSettings, DriftTest, Finding
from runtime.monitoring.layout import Feature, Kind, columns
from runtime.monitoring.quantiles import has_sketches
from runtime.monitoring.reference import Baseline, make_baseline
from runtime.monitoring.summary import CategorySummary, FeatureSummary, NumberSummary, Summary, empty, restated
from runtime.monitoring.verdict import Verdict, explain
from runtime.tensors import Array

LEARN_ROWS: Final = 1000
"""First rows that become the reference where the bundle has neither profile nor samples."""
MAX_VERDICTS: Final = 64


@dataclass(frozen=True, slots=True)
class Window:
    """A finished stretch of rows, by the clock of whoever counted them."""

    summary: Summary
    began: float
    ended: float
    drifting: tuple[str, ...] = ()
    """Features that drift for whoever counted it, by the rows that may be told of."""
    private_rows: int = 0
    """Rows of the same time, and of windows before it of which nothing was told, that nobody else may count."""


class Monitor:
    """Watches one version of one model, from rows seen here or from windows that others counted. Not thread-safe."""

    def __init__(self, baseline: Baseline, settings: DriftSettings = DriftSettings()) -> None:  # noqa: B008  (frozen)
        self.baseline = baseline
        self.verdicts: dict[str, Verdict] = {}
        """Of the features that drift now."""
        self._test = DriftTest(baseline, settings)
        self._recent: list[_Recent] = []
        """Newest last, at most two of a size, so few stand for many."""
        self._total = Summary(baseline)

    @property
    def rows(self) -> int:
        """Counted in windows so far."""
        return self._total.rows

    @property
    def looks(self) -> int:
        """How often it looked for drift."""
        return self._test.looks

    def add(self, window: Window) -> list[Verdict]:
        """Takes a window and looks; the verdicts that are new. `ValueError` for a window of another baseline."""
        self._total.merge(window.summary)
        own = Summary(self.baseline)
        own.merge(window.summary)
        if self._recent and window.began < self._recent[-1].began:
            self._keep_late(window.began, own)
        else:
            self._keep(_Recent(1, window.began, own))
        fresh = self._test.look(window.summary, window.began, window.ended)
        self.verdicts = {
            name: self._explain(finding) for name, finding in list(self._test.active.items())[:MAX_VERDICTS]
        }
        return [self.verdicts[finding.feature] for finding in fresh if finding.feature in self.verdicts]

    def test_so_far(self) -> DriftTest:
        """A test that has seen what this one has, and goes its own way from here."""
        return deepcopy(self._test)

    def newest(self, rows: int) -> Summary:
        """The newest windows, as many as hold `rows` rows; all where there are fewer."""
        found = Summary(self.baseline)
        for recent in reversed(self._recent):
            found.merge(recent.summary)
            if found.rows >= rows:
                break
        return found

    def document(self) -> dict[str, Any]:
        """What is known, as JSON."""
        baseline = self.baseline
        return {
            "model": baseline.model,
            "version": baseline.version,
            "baseline": {"key": baseline.key, "source": baseline.source, "rows": baseline.rows},
            "rows": self.rows,
            "looks": self._test.looks,
            "is_drifting": bool(self.verdicts),
            "verdicts": in_order(self.verdicts.values()),
            "features": {
                feature.name: {"role": feature.role.value, **_describe(self._total, feature.name, reference)}
                for feature, reference in zip(baseline.features, baseline.references, strict=True)
            },
        }

    def _keep(self, recent: _Recent) -> None:
        self._recent.append(recent)
        at = len(self._recent) - 1
        while at >= 2 and self._recent[at].blocks == self._recent[at - 1].blocks == self._recent[at - 2].blocks:
            older, newer = self._recent[at - 2], self._recent[at - 1]
            older.summary.merge(newer.summary)
            self._recent[at - 2 : at] = [_Recent(2 * older.blocks, older.began, older.summary)]
            at -= 2
        if len(self._recent) > 16:
            del self._recent[0]

    def _keep_late(self, began: float, summary: Summary) -> None:
        """Joins rows that come late to those of their time."""
        at = max((at for at, recent in enumerate(self._recent) if recent.began <= began), default=0)
        recent = self._recent[at]
        recent.summary.merge(summary)
        self._recent[at] = _Recent(recent.blocks, min(recent.began, began), recent.summary)

    def _explain(self, finding: Finding) -> Verdict:
        known = self.verdicts.get(finding.feature)
        if known is not None and known.finding == finding:
            return known
        at = next(i for i, feature in enumerate(self.baseline.features) if feature.name == finding.feature)
        feature, reference = self.baseline.features[at], self.baseline.references[at]
        later, before = self._split(finding)
        if finding.against is Against.BEFORE and reference.rows < MIN_ROWS:
            reference = restated(reference, _joined(before, feature, reference))
        return explain(finding, feature, reference, _joined(later, feature, reference))

    def _split(self, finding: Finding) -> tuple[list[_Recent], list[_Recent]]:
        """The rows since the change, and those before it; without the block it began in, which holds both, where there are more."""
        later = [recent for recent in self._recent if recent.began > finding.since]
        if sum(recent.summary.rows for recent in later) < MIN_ROWS:
            later = [recent for recent in self._recent if recent.began >= finding.since] or self._recent[-1:]
        return later, [recent for recent in self._recent if recent.began < finding.since]


@dataclass(frozen=True, slots=True)
class _Recent:
    blocks: int
    began: float
    summary: Summary


def _joined(several: Iterable[_Recent], feature: Feature, reference: FeatureReference) -> FeatureSummary:
    """What they have seen of one feature: of all, it would cost as often as there are features."""
    joined = empty(feature, reference, use_sketches=has_sketches())
    for recent in several:
        joined.merge(recent.summary.features[feature.name])
    return joined


class Learner:
    """Collects the first rows of a model without a reference, then makes one of them."""

    def __init__(self, model: str, version: int, features: tuple[Feature, ...]) -> None:
        self._model, self._version, self._features = model, version, features
        self._values: dict[str, list[Any]] = {feature.name: [] for feature in features}
        self.rows = 0

    def update(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Baseline | None:
        """Takes rows; the baseline once there are enough."""
        taken = columns(self._features, inputs, outputs)
        for name, values in taken.items():
            self._values[name].extend(values)
        self.rows += max((len(values) for values in taken.values()), default=0)
        if self.rows < LEARN_ROWS:
            return None
        gathered: dict[str, Any] = {
            f.name: np.asarray(self._values[f.name], np.float64) if f.kind is Kind.NUMBER else self._values[f.name]
            for f in self._features
            if self._values[f.name]
        }
        return make_baseline(self._model, self._version, self._features, gathered, "first rows")


def in_order(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """As JSON, inputs first: where both drift, the answers changed because the inputs did."""
    return sorted(
        (verdict.to_dict() for verdict in verdicts), key=lambda told: (told["role"] != "input", told["log10_p"])
    )


def _describe(total: Summary, name: str, reference: FeatureReference) -> dict[str, Any]:
    feature = total.features[name]
    told: dict[str, Any] = {
        "rows": feature.rows,
        "missing": feature.missing,
        "not_finite": feature.not_finite,
        "out_of_schema": feature.out_of_schema,
    }
    if isinstance(feature, NumberSummary):
        moments, tenths = feature.moments, feature.deciles()
        if moments.count:
            told |= {"mean": moments.mean, "std": moments.std, "min": moments.low, "max": moments.high}
        told["deciles"] = None if tenths is None else [float(value) for value in tenths]
        told["reference"] = {"mean": reference.mean, "median": reference.deciles[5] if reference.deciles else None}
    elif isinstance(feature, CategorySummary):
        top, counted = feature.items.top(10), sum(reference.counts)
        told["top"] = [[item.name, item.low, item.high] for item in top]
        shares = dict(zip(reference.categories, reference.counts, strict=False))
        # None where the reference says nothing of it, as of what devices answer.
        told["reference"] = {
            "shares": [round(shares.get(item.name, 0) / counted, 5) if counted else None for item in top]
        }
    return told

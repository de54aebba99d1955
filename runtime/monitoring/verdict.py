"""What a finding means: size, since when, example bins, the likely kind of cause, and what to do next. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from runtime.bundle.profile import FeatureReference
from runtime.monitoring.decision import Finding, Measure
from runtime.monitoring.distances import Distances, by_chance, measure
from runtime.monitoring.layout import Feature, Kind, Role
from runtime.monitoring.moments import Numbers
from runtime.monitoring.summary import CategorySummary, FeatureSummary, NumberSummary

EXAMPLES: Final = 3
# Tenths of a sample of hundreds scatter by some per cent of the spread; a straight line through them explains this much of it.
_LINE_FIT: Final = 0.985
_SCALE_FIT: Final = 0.97
"""Less than of a fitted line: the tenths of a hundred rows put the slope a tenth off."""
_TEMPERATURES: Final[Sequence[tuple[float, float, str]]] = (
    (1.8, 32.0, "°C became °F"),
    (1 / 1.8, -32 / 1.8, "°F became °C"),
    (1.0, 273.15, "°C became K"),
    (1.0, -273.15, "K became °C"),
)
_FACTOR_TOLERANCE: Final = 0.06
_STUCK: Final = 1e-6
"""Of the reference's spread: a mean of equal numbers is off by rounding, and so is the spread about it."""
_UNITS: Final[Sequence[tuple[float, str]]] = (
    (1000.0, "1,000 (kilo to base, s to ms, m to mm)"),
    (1e6, "1,000,000 (mega to base, s to µs)"),
    (255.0, "255 (pixels of 0..1 became 0..255)"),
    (100.0, "100 (shares to per cent, m to cm)"),
    (60.0, "60 (minutes to seconds, hours to minutes)"),
    (3600.0, "3,600 (hours to seconds)"),
    (24.0, "24 (days to hours)"),
    (2.54, "2.54 (inches to cm)"),
    (0.3048, "0.3048 (feet to m)"),
    (0.45359, "0.4536 (pounds to kg)"),
    (1.60934, "1.609 (miles to km)"),
    (math.pi / 180, "π/180 (degrees to radians)"),
    (10.0, "10"),
)


class Suspect(StrEnum):
    """Kinds of cause that the numbers can tell apart."""

    UNIT_CHANGE = "upstream unit change"
    INVERSION = "inverted scale"
    OFFSET = "shifted by a constant"
    RESCALED = "rescaled"
    STUCK = "stuck at one value"
    MISSING = "missing values"
    NOT_FINITE = "values that are not finite"
    OUT_OF_SCHEMA = "values outside the declared range"
    NEW_CATEGORY = "new category"
    COVARIATE_SHIFT = "covariate shift"
    OUTPUT_SHIFT = "answers changed"
    CONCEPT_SHIFT = "concept shift"
    """What is right for an input changed, and the inputs did not."""
    LABELS = "labels that contradict each other"


NEXT_STEPS: Final = {
    Suspect.UNIT_CHANGE: "ask whoever fills this field what changed at that time, and convert it back before the model",
    Suspect.INVERSION: "look at a few raw rows: the sign, or light and dark, changed sides upstream",
    Suspect.OFFSET: "compare the sensor's or the source's calibration before and after that time",
    Suspect.RESCALED: "look for a changed normalisation or unit upstream",
    Suspect.STUCK: "check the source of this field: it delivers one value, as a broken sensor or a default does",
    Suspect.MISSING: "find the source that stopped to fill this field; until then the model sees gaps it was not trained on",
    Suspect.NOT_FINITE: "find the division or the decoder upstream that makes infinities",
    Suspect.OUT_OF_SCHEMA: "check the declared range against the source; clip or refuse such rows if the source is wrong",
    Suspect.NEW_CATEGORY: "label some rows of the new category, check the answers on them, and retrain if they are wrong",
    Suspect.COVARIATE_SHIFT: "label a sample of the newest rows; where the model is worse on them, retrain with them",
    Suspect.OUTPUT_SHIFT: "look at the inputs first; where they are calm, check which version answers, and label a sample",
    Suspect.CONCEPT_SHIFT: "look at the newest mistakes: where the labels are right, retrain with rows since that time, or roll "
    "back if a version began to answer then",
    Suspect.LABELS: "let two people label the same rows without seeing each other's answer, and say what each label means",
}


@dataclass(frozen=True, slots=True)
class BinShift:
    """One bin whose share changed, in words fit for a person."""

    label: str
    reference_share: float
    live_share: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One feature that drifted."""

    feature: str
    role: str
    finding: Finding
    size: Distances
    chance: dict[str, float]
    """What each size stays below 99 times of 100 when nothing changed, at these numbers of rows."""
    bins: tuple[BinShift, ...]
    suspect: Suspect
    detail: str
    """The numbers behind the suspicion."""
    next_step: str

    def __str__(self) -> str:
        return f"{self.feature}: {self.suspect} ({self.detail}); next: {self.next_step}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; p-values as powers of ten."""
        finding = self.finding
        return {
            "feature": self.feature,
            "role": self.role,
            "suspect": self.suspect.value,
            "detail": self.detail,
            "next": self.next_step,
            "measure": finding.measure.value,
            "against": finding.against.value,
            "log10_p": round(finding.log_p / math.log(10), 2),
            "log10_limit": round(finding.log_limit / math.log(10), 2),
            "rows": finding.rows,
            "shift": round(finding.shift, 5),
            "since": finding.since,
            "first_seen": finding.first_seen,
            "size": self.size.to_dict(),
            "by_chance": {name: round(value, 5) for name, value in self.chance.items()},
            "bins": [
                {"bin": b.label, "reference": round(b.reference_share, 5), "live": round(b.live_share, 5)}
                for b in self.bins
            ],
        }


def explain(finding: Finding, feature: Feature, reference: FeatureReference, live: FeatureSummary) -> Verdict:
    """The verdict on a finding, from the reference and a summary of the rows that showed it."""
    before, now = np.asarray(reference.counts, np.float64), live.counts.astype(np.float64)
    tenths = live.deciles() if isinstance(live, NumberSummary) else None
    size = measure(
        before,
        now,
        is_ordered=feature.kind is Kind.NUMBER,
        deciles=(reference.deciles or None, tenths),
        std=reference.std,
    )
    used = int(((before + now) > 0).sum())
    suspect, detail = _suspect(finding, feature, reference, live, tenths)
    return Verdict(
        feature.name,
        feature.role.value,
        finding,
        size,
        by_chance(used, int(now.sum()), int(before.sum())),
        _examples(reference, before, now),
        suspect,
        detail,
        NEXT_STEPS[suspect],
    )


def _suspect(
    finding: Finding, feature: Feature, reference: FeatureReference, live: FeatureSummary, tenths: Numbers | None
) -> tuple[Suspect, str]:
    rows, before = max(live.rows, 1), max(reference.rows, 1)
    for measured, suspect, now, then in (
        (Measure.NOT_FINITE, Suspect.NOT_FINITE, live.not_finite, reference.not_finite),
        (Measure.MISSING, Suspect.MISSING, live.missing, reference.missing),
    ):
        if finding.measure is measured or now / rows - then / before > 0.02:
            return suspect, f"{now / rows:.2%} of rows, {then / before:.2%} in the reference"
    if isinstance(live, CategorySummary):
        return _suspect_category(feature, reference, live)
    if isinstance(live, NumberSummary) and live.moments.count:
        moments = live.moments
        if reference.std and moments.std <= _STUCK * reference.std:
            return Suspect.STUCK, f"always {moments.mean:g}; the reference has a spread of {reference.std:g}"
        if feature.role is Role.INPUT and tenths is not None and len(reference.deciles) == 11:
            line = _line(np.asarray(reference.deciles), tenths)
            if line is not None:
                return line
    if finding.measure is Measure.OUT_OF_SCHEMA:
        bounds = (
            f"[{feature.low:g}, {feature.high:g}]"
            if feature.low is not None and feature.high is not None
            else "its range"
        )
        return Suspect.OUT_OF_SCHEMA, f"{live.out_of_schema / rows:.2%} of rows lie outside {bounds}"
    detail = f"{finding.shift:.1%} of rows changed place"
    if (
        isinstance(live, NumberSummary)
        and live.moments.count
        and reference.mean is not None
        and reference.std is not None
    ):
        detail += f"; mean {reference.mean:g} → {live.moments.mean:g}, spread {reference.std:g} → {live.moments.std:g}"
    return (Suspect.OUTPUT_SHIFT if feature.role is Role.OUTPUT else Suspect.COVARIATE_SHIFT), detail


def _suspect_category(feature: Feature, reference: FeatureReference, live: CategorySummary) -> tuple[Suspect, str]:
    named = max(live.rows - live.missing, 1)
    if live.out_of_schema / named > 0.002 and feature.role is Role.INPUT:
        known = {*reference.categories, *reference.known}
        new = [item.name for item in live.items.top(64) if item.name not in known][:3]
        names = (
            ", ".join(repr(name) for name in new)
            or "many different ones, or such as only the device that saw them names"
        )
        return Suspect.NEW_CATEGORY, f"{live.out_of_schema / named:.2%} of rows hold values never seen before: {names}"
    suspect = Suspect.OUTPUT_SHIFT if feature.role is Role.OUTPUT else Suspect.COVARIATE_SHIFT
    return suspect, "the shares of the categories changed"


def _line(before: Numbers, now: Numbers) -> tuple[Suspect, str] | None:
    """A straight line from the old tenths to the new ones that is more than a small nudge; None where there is none."""
    inner_before, inner_now = before[1:-1], now[1:-1]
    spread = float(inner_before.std())
    if spread == 0:
        return None
    for turned, values in ((False, inner_now), (True, inner_now[::-1])):
        slope = float(((inner_before - inner_before.mean()) * (values - values.mean())).mean() / spread**2)
        offset = float(values.mean() - slope * inner_before.mean())
        left = float((values - slope * inner_before - offset).std())
        if values.std() == 0 or 1 - (left / float(values.std())) ** 2 < _LINE_FIT or (slope < 0) != turned:
            continue
        said = f"the tenths follow {slope:.4g} × before {'+' if offset >= 0 else '-'} {abs(offset):.4g}"
        if turned:
            return _turned(before, slope, offset, said)
        scale = _temperature_scale(inner_before, values)
        if scale is not None:
            return Suspect.UNIT_CHANGE, f"{said}: {scale}"
        unit = _unit(slope) if abs(offset) < 0.1 * abs(slope) * (spread + abs(float(inner_before.mean()))) else None
        if unit is not None:
            return Suspect.UNIT_CHANGE, f"{said}: {unit}"
        if abs(slope - 1) < 0.12:
            return (Suspect.OFFSET, said) if abs(offset) > 0.3 * spread else None
        return (Suspect.RESCALED, said) if not 0.8 < slope < 1.25 else None
    return None


def _turned(before: Numbers, slope: float, offset: float, said: str) -> tuple[Suspect, str] | None:
    """A symmetric distribution turned over looks like itself: only a turn that moved something counts."""
    middle = float(before[5])
    moved = abs(slope * middle + offset - middle)
    spread = float(before[1:-1].std())
    asymmetry = abs(float(before[9] + before[1] - 2 * middle))
    return (
        (Suspect.INVERSION, said) if (moved > 0.5 * spread and asymmetry > 0.3 * spread) or moved > 2 * spread else None
    )


def _temperature_scale(before: Numbers, now: Numbers) -> str | None:
    """The change between temperature scales that by itself takes the old tenths to the new ones; None where none does."""
    for slope, offset, words in _TEMPERATURES:
        missed = now - (slope * before + offset)
        if float((missed**2).mean()) <= (1 - _SCALE_FIT) * float(now.var()):
            return words
    return None


def _unit(slope: float) -> str | None:
    for factor, words in _UNITS:
        if abs(slope / factor - 1) < _FACTOR_TOLERANCE:
            return f"times {words}"
        if abs(slope * factor - 1) < _FACTOR_TOLERANCE:
            return f"divided by {words}"
    return None


def _examples(reference: FeatureReference, before: Numbers, now: Numbers) -> tuple[BinShift, ...]:
    p, q = before / max(before.sum(), 1), now / max(now.sum(), 1)
    order = np.argsort(-np.abs(q - p), kind="stable")[:EXAMPLES]
    return tuple(
        BinShift(bin_label(reference, at), float(p[at]), float(q[at])) for at in order.tolist() if p[at] != q[at]
    )


def bin_label(reference: FeatureReference, at: int) -> str:
    """A bin as people write it."""
    if reference.kind == "category":
        names = (*reference.categories, "other known values", "values never seen before")
        return names[at]
    edges = reference.edges
    if not edges:
        return "all values"
    if at == 0:
        return f"below {edges[0]:.4g}"
    # One value that many rows have is a bin of its own, which ends at the next number there is: nobody reads that one.
    is_after_one = at >= 2 and edges[at - 1] == np.nextafter(edges[at - 2], np.inf)
    if at == len(edges):
        return f"above {edges[-2]:.4g}" if is_after_one else f"{edges[-1]:.4g} and above"
    if edges[at] == np.nextafter(edges[at - 1], np.inf):
        return f"exactly {edges[at - 1]:.4g}"
    return (
        f"above {edges[at - 2]:.4g} to {edges[at]:.4g}" if is_after_one else f"{edges[at - 1]:.4g} to {edges[at]:.4g}"
    )

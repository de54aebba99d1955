"""Figures and bars of a run, from its raw pairs. How they are told is `page`'s matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

MEDIAN_REGRET = 0.01
WORST_REGRET = 0.05
LEAST_GAIN = 0.97
MOST_START = 1.3
BUDGET_SLACK = 1.1
"""The last call of a measurement may end after its time."""
SAME_MACHINE = 1.25
"""What was chosen takes at most so many times as long, or as short, as it did in its calibration, or the machine is another by now:
a virtual one's cores are taken from it and given back for seconds at a time. Serving, its watch would calibrate again."""
Turns = list[list[float]]
"""Milliseconds, one list a turn, one entry a side."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one model showed."""

    name: str
    chosen: str
    best: str
    regret: float
    candidates: int
    rejected: list[str]
    accuracy: float | None
    agreement: float | None
    floor: float | None
    trial_s: float
    measuring_s: float
    loading_s: float
    budget_s: float
    gain_turns: Turns | None
    start_turns: Turns
    first_turns: Turns
    """The same to the first answer."""
    cold_start_turns: Turns = field(default_factory=list)
    """As `start_turns`, each after 50 ms in which nothing ran; empty: results of before both were measured, when that was all."""
    variants: list[str] = field(default_factory=list)
    """Of the bundle."""
    left_out: dict[str, str] = field(default_factory=dict)
    """What the build left out of it, and why."""
    ms_by_candidate: dict[str, float] = field(default_factory=dict)
    regret_pairs: Turns = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_start_bare: bool = True
    """Whether a start is told by the bare engine; otherwise by the session that selection opens."""
    calibrated_ms: float | None = None
    """One row of what was chosen, in its calibration. None: results of before that was kept."""
    tries: int = 1
    """How often all of this was measured, until the machine stayed the same throughout; the last time is told."""

    @property
    def is_steady(self) -> bool:
        """Whether what was chosen took as long afterwards as in its calibration, whoever was faster."""
        if self.calibrated_ms is None:
            return True
        found = [self.ms_by_candidate[self.chosen]] if self.chosen in self.ms_by_candidate else []
        if self.gain_turns:
            found.append(median(variant for _, variant, _ in self.gain_turns))
        return all(1 / SAME_MACHINE <= ms / self.calibrated_ms <= SAME_MACHINE for ms in found)

    @property
    def calibration_s(self) -> float:
        """What the budget covers: trials, checks and measuring; engines load beside it."""
        return self.trial_s + self.measuring_s

    @property
    def gain(self) -> float | None:
        """Times as fast the chosen variant is as the default session; None where there is none."""
        return median(default / variant for default, variant, _ in self.gain_turns) if self.gain_turns else None

    @property
    def whole_gain(self) -> float | None:
        """The same of `Model.predict`, which also checks its inputs and watches itself."""
        return median(default / model for default, _, model in self.gain_turns) if self.gain_turns else None

    @property
    def start(self) -> float:
        """Times as long as the engine's own opening of the file."""
        return median(ours / bare for bare, ours in self.start_turns)

    @property
    def cold_start(self) -> float | None:
        """The same where the machine has idled; None where it was not measured."""
        return median(ours / bare for bare, ours in self.cold_start_turns) if self.cold_start_turns else None

    @property
    def first(self) -> float:
        """Times as long as the engine's own opening and its first call."""
        return median(ours / bare for bare, ours in self.first_turns)

    @property
    def start_extra_ms(self) -> float:
        """What a load takes beyond that."""
        return median(ours - bare for bare, ours in self.start_turns)

    @property
    def is_right(self) -> bool:
        """Whether what was chosen holds the floor."""
        share = self.accuracy if self.accuracy is not None else self.agreement
        return self.floor is None or share is None or share >= self.floor

    def to_dict(self) -> dict[str, Any]:
        """Everything, raw pairs and figures."""
        return {
            **asdict(self),
            "gain": self.gain,
            "whole_gain": self.whole_gain,
            "start": self.start,
            "cold_start": self.cold_start,
            "first": self.first,
            "start_extra_ms": self.start_extra_ms,
        }


def bars(results: Sequence[Result]) -> list[tuple[str, bool]]:
    """Every bar with the figure that was reached, and whether it is held."""
    regrets = [result.regret for result in results]
    gains = {result.name: result.gain for result in results if result.gain is not None}
    wholes = {result.name: result.whole_gain for result in results if result.whole_gain is not None}
    starts = {result.name: result.start for result in results}
    late = [f"{r.name} ({r.calibration_s:.1f} s)" for r in results if r.calibration_s > BUDGET_SLACK * r.budget_s]
    wrong = [result.name for result in results if not result.is_right]
    near = sum(regret <= WORST_REGRET for regret in regrets)
    bare = [result.start for result in results if result.is_start_bare]
    quick = sum(start <= MOST_START for start in bare)
    slowest = max(starts, key=starts.__getitem__)
    return [
        (f"models: {len(results)}, at least 8", len(results) >= 8),
        (f"regret, median: {median(regrets):.2%}, at most {MEDIAN_REGRET:.0%}", median(regrets) <= MEDIAN_REGRET),
        (
            f"regret, worst: {max(regrets):.2%}, at most {WORST_REGRET:.0%} ({near} of {len(results)})",
            max(regrets) <= WORST_REGRET,
        ),
        (f"choices below the floor: {', '.join(wrong) or 'none'}", not wrong),
        (f"whole calibrations beyond their budget: {', '.join(late) or 'none'}", not late),
        *_gain_bars(gains, wholes),
        (
            f"start, worst: {starts[slowest]:.2f} × ({slowest}), at most {MOST_START} ({quick} of {len(bare)} by a bare engine)",
            starts[slowest] <= MOST_START,
        ),
    ]


def _gain_bars(gains: dict[str, float], wholes: dict[str, float]) -> list[tuple[str, bool]]:
    """None of them where no model has an ONNX file, by which a gain is told."""
    if not gains:
        return []
    mean = math.exp(sum(map(math.log, gains.values())) / len(gains))
    found = [(f"gain, geometric mean: {mean:.2f} ×", mean >= 1)]
    for what, shares in (("gain", gains), ("gain of `predict`", wholes)):
        least = min(shares, key=shares.__getitem__)
        found.append(
            (f"{what}, least: {shares[least]:.2f} × ({least}), at least {LEAST_GAIN}", shares[least] >= LEAST_GAIN)
        )
    return found

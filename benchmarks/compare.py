"""Whether B is faster than A: two results folders, or two settings measured interleaved in fresh processes.

Interleaved is the one to believe: A/B/B/A in each round, so that a machine that warms up or a neighbour that wakes falls on
both alike. Two folders were measured at different times, and a difference between the times looks like one between them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import read_environment
from benchmarks.measure import measure
from benchmarks.row import backend_used, model_sha256
from benchmarks.run import prepare, with_start
from benchmarks.samples import SCHEMA_VERSION, Recording
from benchmarks.scenarios import Scenario
from benchmarks.settings import ANYONE, Access, Setting
from benchmarks.significance import (
    DEFAULT_THRESHOLD,
    Interval,
    Judgement,
    bootstrap_ratio,
    judge,
    mann_whitney,
    stretches,
)
from benchmarks.statistics import Values, needed_samples, percentile_name
from runtime.errors import EdgewardError, MachineError, WrongUseError

SHARES = (0.5, 0.99)
# One run cut in so many stretches: long enough to hold a burst of noise each, enough of them for an interval.
STRETCHES = 20
DEFAULT_ROUNDS = 5
ORDER = "ABBA"
COMPARED_FILE = "compare.json"

Progress = Callable[[str, float], None]
"""Called with what is measured now and the share of all that is done."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantile of B against A."""

    what: str
    a: str
    b: str
    share: float
    a_ms: float
    b_ms: float
    n: tuple[int, int]
    ratio: Interval
    p_value: float | None
    """Mann-Whitney's; None for quantiles above the median, which their interval decides."""
    threshold: float
    judgement: Judgement

    @property
    def smallest_visible(self) -> float:
        """The smallest change, as a share, that this measurement would call one: beyond its interval, and beyond the threshold."""
        return max(self.threshold, self.ratio.reach)

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that `json` writes."""
        return {
            "what": self.what,
            "a": self.a,
            "b": self.b,
            "quantile": percentile_name(self.share),
            "a_ms": self.a_ms,
            "b_ms": self.b_ms,
            "n": list(self.n),
            "ratio": self.ratio.value,
            "low": self.ratio.low if np.isfinite(self.ratio.low) else None,
            "high": self.ratio.high if np.isfinite(self.ratio.high) else None,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "smallest_visible": self.smallest_visible if np.isfinite(self.smallest_visible) else None,
            "verdict": self.judgement.verdict.value,
            "reason": self.judgement.reason,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """Two settings compared now, by the whole rounds that were measured."""

    comparisons: list[Comparison]
    rounds: int
    was_stopped: bool
    measured: Sequence[Mapping[str, Any]] = ()
    """Of each side and measurement that is compared: where and on what; see `_origin`."""

    def to_dict(self) -> dict[str, Any]:
        """All of it in types that `json` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "rounds": self.rounds,
            "was_stopped": self.was_stopped,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "measured": list(self.measured),
        }


def compare_folders(
    a: Sequence[Recording], b: Sequence[Recording], threshold: float = DEFAULT_THRESHOLD
) -> tuple[Compared, list[str]]:
    """`compare_recordings`, with where the two came from."""
    comparisons, notes = compare_recordings(a, b, threshold)
    measured = [_origin(side, recording.header) for side, every in (("A", a), ("B", b)) for recording in every]
    return Compared(comparisons, 1, was_stopped=False, measured=measured), notes


def compare_recordings(
    a: Sequence[Recording], b: Sequence[Recording], threshold: float = DEFAULT_THRESHOLD
) -> tuple[list[Comparison], list[str]]:
    """Every cell that both have, and a sentence for each that only one has or that is not valid.

    `WrongUseError` when they have nothing in common.
    """
    in_a, in_b = ({recording.key: recording for recording in side} for side in (a, b))
    comparisons, notes = [], []
    for key, first in in_a.items():
        what = ", ".join(key)
        second = in_b.get(key)
        if second is None:
            notes.append(f"only A has {what}")
        elif not (first.is_valid and second.is_valid):
            notes.append(f"{what} is not compared: {first.header['invalid_reason'] or second.header['invalid_reason']}")
        else:
            blocks = [stretches(_answered(recording), STRETCHES) for recording in (first, second)]
            comparisons += compare_blocks(what, ("A", "B"), blocks[0], blocks[1], is_paired=False, threshold=threshold)
    notes += [f"only B has {', '.join(key)}" for key in in_b if key not in in_a]
    if not comparisons and not (set(in_a) & set(in_b)):
        raise WrongUseError(f"A and B have no measurement in common: {'; '.join(notes)}")
    return comparisons, notes


def compare_settings(
    a: Setting,
    b: Setting,
    scenario: Scenario,
    rounds: int = DEFAULT_ROUNDS,
    threshold: float = DEFAULT_THRESHOLD,
    progress: Progress | None = None,
    folder: Path | None = None,
    access: Access = ANYONE,
) -> Compared:
    """A and B measured A/B/B/A in fresh processes, `rounds` times, and compared round by round.

    With `folder` every recording is saved there as it ends, and the verdicts (`compare.json`) at the end. `MachineError` when a
    measurement is INVALID. On Ctrl-C the whole rounds so far are compared, if any.
    """
    prepare(folder)
    environment = read_environment()
    done: list[tuple[Values, Values]] = []
    measured: dict[str, Mapping[str, Any]] = {}
    with contextlib.suppress(KeyboardInterrupt):
        for number in range(rounds):
            this_round: dict[str, list[Values]] = {"A": [], "B": []}
            for place, side in enumerate(ORDER):

                def tell(share: float, number: int = number, place: int = place, side: str = side) -> None:
                    if progress is not None:
                        before = number * len(ORDER) + place
                        progress(f"round {number + 1} of {rounds}, {side}", (before + share) / (rounds * len(ORDER)))

                tell(0.0)
                setting = a if side == "A" else b
                try:
                    recording = measure(setting, scenario, environment, tell, access)
                except EdgewardError as error:
                    raise with_start(setting, error) from error
                if folder is not None:
                    recording.save(folder / f"{number:02d}-{place}-{side}.npz")
                if recording.header["was_stopped"]:
                    raise KeyboardInterrupt
                if not recording.is_valid:
                    raise MachineError(
                        f"{side} ({', '.join(recording.key)}) is INVALID: {recording.header['invalid_reason']}"
                    )
                measured.setdefault(side, _origin(side, recording.header))
                this_round[side].append(_answered(recording))
            done.append((np.concatenate(this_round["A"]), np.concatenate(this_round["B"])))
    comparisons: list[Comparison] = []
    if done:
        of_a, of_b = zip(*done, strict=True)
        names = (str(a), str(b))
        comparisons = compare_blocks(str(scenario), names, of_a, of_b, is_paired=True, threshold=threshold)
    told = list(measured.values()) if done else []
    compared = Compared(comparisons, len(done), len(done) < rounds, told)
    if folder is not None:
        text = json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (folder / COMPARED_FILE).write_text(text, encoding="utf-8")
    return compared


def compare_blocks(
    what: str,
    names: tuple[str, str],
    a: Sequence[Values],
    b: Sequence[Values],
    *,
    is_paired: bool,
    threshold: float,
) -> list[Comparison]:
    """The quantiles for which both sides have samples enough; latencies in milliseconds, in blocks."""
    all_a, all_b = np.concatenate(a), np.concatenate(b)
    p_value = mann_whitney(all_a, all_b)
    comparisons = []
    for share in SHARES:
        if min(len(all_a), len(all_b)) < needed_samples(share):
            continue
        ratio = bootstrap_ratio(a, b, share, is_paired=is_paired)
        tested = p_value if share <= 0.5 else None
        judgement = judge(ratio, tested, threshold, min(len(a), len(b)))
        a_ms, b_ms = (float(np.quantile(side, share, method="inverted_cdf")) for side in (all_a, all_b))
        sizes = (len(all_a), len(all_b))
        comparisons.append(Comparison(what, *names, share, a_ms, b_ms, sizes, ratio, tested, threshold, judgement))
    return comparisons


def _origin(side: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader of the verdict needs to know of a measurement."""
    kept = ("scenario_text", "started", "seed", "environment")
    return {
        "side": side,
        **header["setting"],
        "backend_used": backend_used(header),
        "server": header["target"]["server"],
        "model_sha256": model_sha256(header),
        **{name: header[name] for name in kept},
    }


def _answered(recording: Recording) -> Values:
    """Latencies in milliseconds of the requests that were answered, in the order of time."""
    return recording.samples.latency_ms[recording.is_ok]

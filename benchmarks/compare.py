"""Whether B is faster than A: two settings measured interleaved in fresh processes, or the runs in two folders of results.

Interleaved is the one to believe: A/B/B/A in each round, so that a machine that warms up or a neighbour that wakes falls on
both alike. Two folders were measured at different times, and a difference between the times looks like one between them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison import Compared, Comparison, compare_blocks, differences, too_few
from benchmarks.environment import read_environment
from benchmarks.failures import Errors
from benchmarks.measure import measure
from benchmarks.row import backend_used, model_sha256
from benchmarks.run import prepare, with_start
from benchmarks.samples import Recording
from benchmarks.scenarios import Scenario
from benchmarks.settings import ANYONE, Access, Setting
from benchmarks.significance import DEFAULT_THRESHOLD, LEAST_BLOCKS, Blocks
from benchmarks.statistics import Values
from runtime.errors import EdgewardError, MachineError, WrongUseError

DEFAULT_ROUNDS = LEAST_BLOCKS
ORDER = "ABBA"
COMPARED_FILE = "compare.json"
AT_DIFFERENT_TIMES = (
    "measured at different times: what changed between them looks like a difference of A and B; "
    "compare two targets for an interleaved verdict"
)

Progress = Callable[[str, float], None]
"""Called with what is measured now and the share of all that is done."""


def compare_folders(a: Sequence[Recording], b: Sequence[Recording], threshold: float = DEFAULT_THRESHOLD) -> Compared:
    """Every cell that both have, by its runs; notes for those that only one has, and for recordings that are not valid or whole.

    `WrongUseError` when they have nothing in common; `MachineError` when nothing that they have in common is valid and whole.
    """
    in_a, in_b = _by_cell(a), _by_cell(b)
    notes = [f"only A has {', '.join(key)}" for key in in_a if key not in in_b]
    notes += [f"only B has {', '.join(key)}" for key in in_b if key not in in_a]
    common = [key for key in in_a if key in in_b]
    if not common:
        raise WrongUseError(f"A and B have no measurement in common: {'; '.join(notes)}")
    comparisons: list[Comparison] = []
    measured: list[Mapping[str, Any]] = []
    left_out: list[str] = []
    for key in common:
        sides = {"A": in_a[key], "B": in_b[key]}
        left_out += [why for side, every in sides.items() for one in every if (why := _left_out(side, one)) is not None]
        kept = [[one for one in every if _left_out(side, one) is None] for side, every in sides.items()]
        if all(kept):
            of_a, of_b = map(_Side.of, kept)
            found, note = _compare(", ".join(key), ("A", "B"), of_a, of_b, Blocks.RUNS, threshold)
            comparisons += found
            notes += note
            measured += [_origin(side, one.header) for side, every in zip("AB", kept, strict=True) for one in every]
    if not measured:
        raise MachineError(f"nothing is compared: {'; '.join(left_out)}")
    notes += [*left_out, *differences(measured), AT_DIFFERENT_TIMES]
    by_side = sorted(measured, key=lambda one: str(one["side"]))
    return Compared(comparisons, None, measured=by_side, notes=notes)


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

    With `folder` every recording is saved there as it ends, and the verdicts (`compare.json`) at the end. What ends it early,
    Ctrl-C or an error, leaves the whole rounds so far, which are compared. An error in the first round is raised: the target's
    own, or `MachineError` where a measurement is INVALID.
    """
    prepare(folder)
    turns = _Turns({"A": a, "B": b}, scenario, rounds, progress, folder, access)
    was_stopped, failed = False, None
    try:
        for number in range(rounds):
            turns.measure_round(number)
    except KeyboardInterrupt:
        was_stopped = True
    except EdgewardError as error:
        if not turns.sides:
            error.args = (f"{error}{turns.where}",)
            raise
        failed = str(error)
    comparisons: list[Comparison] = []
    notes: list[str] = []
    if turns.sides:
        names = (str(a), str(b))
        comparisons, notes = _compare(
            str(scenario), names, turns.sides["A"], turns.sides["B"], Blocks.ROUNDS, threshold
        )
    done = len(turns.sides["A"].blocks) if turns.sides else 0
    measured = [turns.measured[side] for side in turns.sides]
    compared = Compared(comparisons, done, was_stopped, failed, measured, notes)
    if folder is not None:
        text = json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (folder / COMPARED_FILE).write_text(text, encoding="utf-8")
    return compared


@dataclass(frozen=True, slots=True)
class _Side:
    """What one side answered, in blocks, and what failed."""

    blocks: Sequence[Values]
    """Latencies in milliseconds of the requests that were answered, in the order of time."""
    errors: Errors

    @classmethod
    def of(cls, recordings: Sequence[Recording]) -> _Side:
        """A block each."""
        errors: Counter[str] = Counter()
        for recording in recordings:
            errors.update(dict(recording.summary().errors))
        return cls([one.samples.latency_ms[one.is_ok] for one in recordings], errors)

    def in_one(self) -> _Side:
        """All of it as one block."""
        return _Side([np.concatenate(self.blocks)], self.errors)

    def and_then(self, other: _Side) -> _Side:
        """The blocks of both."""
        return _Side([*self.blocks, *other.blocks], Counter(self.errors) + Counter(other.errors))


@dataclass
class _Turns:
    """Measures A and B in turn; has the whole rounds so far."""

    settings: Mapping[str, Setting]
    scenario: Scenario
    rounds: int
    progress: Progress | None
    folder: Path | None
    access: Access
    environment: Mapping[str, Any] = field(default_factory=read_environment)
    sides: dict[str, _Side] = field(default_factory=dict)
    """By "A" and "B"; empty before the first whole round."""
    measured: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The end of a sentence: where samples lie, if any were kept."""
        has_some = self.folder is not None and any(self.folder.glob("*.npz"))
        return f"; samples so far: {self.folder}" if has_some else ""

    def measure_round(self, number: int) -> None:
        """One more. `KeyboardInterrupt` where a person stopped it; the target's errors; `MachineError` where it is INVALID."""
        recordings: dict[str, list[Recording]] = {"A": [], "B": []}
        for place, side in enumerate(ORDER):
            recordings[side].append(self._measure(number, place, side))
        for side, both in recordings.items():
            one = _Side.of(both).in_one()
            self.sides[side] = self.sides[side].and_then(one) if side in self.sides else one

    def _measure(self, number: int, place: int, side: str) -> Recording:
        def tell(share: float) -> None:
            if self.progress is not None:
                before = number * len(ORDER) + place
                self.progress(
                    f"round {number + 1} of {self.rounds}, {side}", (before + share) / (self.rounds * len(ORDER))
                )

        tell(0.0)
        setting = self.settings[side]
        try:
            recording = measure(setting, self.scenario, self.environment, tell, self.access)
        except EdgewardError as error:
            raise with_start(setting, error) from error
        if self.folder is not None:
            recording.save(self.folder / f"{number:02d}-{place}-{side}.npz")
        if recording.header["was_stopped"]:
            raise KeyboardInterrupt
        if not recording.is_valid:
            raise MachineError(_invalid(side, recording))
        self.measured.setdefault(side, _origin(side, recording.header))
        return recording


def _compare(
    what: str, names: tuple[str, str], a: _Side, b: _Side, of: Blocks, threshold: float
) -> tuple[list[Comparison], list[str]]:
    """The quantiles, or a note why there is none."""
    errors = (a.errors, b.errors)
    found = compare_blocks(what, names, a.blocks, b.blocks, of=of, threshold=threshold, errors=errors)
    answered = sum(map(len, a.blocks)), sum(map(len, b.blocks))
    return found, [] if found else [too_few(what, answered, errors)]


def _by_cell(recordings: Sequence[Recording]) -> dict[tuple[str, ...], list[Recording]]:
    """The runs of each cell, in the order measured."""
    found: dict[tuple[str, ...], list[Recording]] = {}
    for recording in recordings:
        found.setdefault(recording.key, []).append(recording)
    return found


def _left_out(side: str, recording: Recording) -> str | None:
    """The sentence why a run is no block; None where it is one. What ended early is of another load than whole runs."""
    if not recording.is_valid:
        return _invalid(side, recording)
    cut_short = recording.cut_short
    return None if cut_short is None else f"{_told(side, recording)} {cut_short}, and is left out"


def _invalid(side: str, recording: Recording) -> str:
    return f"{_told(side, recording)} is INVALID: {recording.header['invalid_reason']}"


def _told(side: str, recording: Recording) -> str:
    return f"{side} ({', '.join(recording.key)})"


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

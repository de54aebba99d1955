"""Finds the highest rate at which a target keeps its SLO: carries out what `finding` decides, and keeps every probe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.arrivals import Arrivals, Pattern
from benchmarks.environment import read_environment
from benchmarks.finding import (
    DEFAULT_START_QPS,
    ONE_AT_A_TIME,
    Found,
    Probe,
    Try,
    duration_s,
    highest_held,
    next_step,
    requests_to_judge,
)
from benchmarks.measure import measure
from benchmarks.promise import Slo
from benchmarks.row import backend_used, model_sha256
from benchmarks.run import FOUND_FILE, file_name, prepare, with_start
from benchmarks.samples import SCHEMA_VERSION, Recording
from benchmarks.scenarios import Scenario, Wishes, plan
from benchmarks.settings import ANYONE, Access, Setting
from benchmarks.statistics import most_above
from runtime.errors import EdgewardError, WrongUseError

# A target so many times the bound behind will not catch up within the probe.
GIVE_UP_BOUNDS = 10.0
LEAST_GIVE_UP_S = 1.0
# What a search usually takes, for the bar.
USUAL_PROBES = 14

Progress = Callable[[str, float], None]
"""Called with what is tried now and the share of the search that is likely done."""
Keep = Callable[[Recording], None]
"""Called with the recording of each probe as it ends."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search: every probe, and what was found; None where a person (`was_stopped`) or an error (`failed`) ended it."""

    setting: Setting
    slo: Slo
    probes: tuple[Probe, ...]
    found: Found | None
    at_best: Recording | None
    """The longest recording at the rate that was found."""
    was_stopped: bool = False
    failed: str | None = None
    """What ended it early, where that was no person."""

    @property
    def reason(self) -> str:
        """Why it ended; of one that ended early with the highest rate that held until then, which nothing has confirmed."""
        if self.found is not None:
            return self.found.reason
        held = highest_held(self.probes)
        so_far = f"{held:g}/s had held" if held else "no rate had held"
        return f"stopped, {so_far}" if self.failed is None else f"ended early, {so_far}: {self.failed}"

    def __str__(self) -> str:
        return f"{self.setting}: {self.found or self.reason} ({len(self.probes)} rates tried)"

    def to_dict(self) -> dict[str, Any]:
        """The search in types that `json` writes."""
        best = None if self.at_best is None else self.at_best.summary(self.slo.bound_ms)
        return {
            **self.setting.to_dict(),
            "backend_used": None if self.at_best is None else backend_used(self.at_best.header),
            "model_sha256": None if self.at_best is None else model_sha256(self.at_best.header),
            "slo": str(self.slo),
            "max_qps": None if self.found is None else self.found.qps,
            "is_lower_bound": None if self.found is None else self.found.is_lower_bound,
            "reason": self.reason,
            "at_max": None if best is None else best.to_dict(),
            "probes": [probe.to_dict() for probe in self.probes],
        }


def find_max(
    setting: Setting,
    slo: Slo,
    wishes: Wishes,
    environment: Mapping[str, Any],
    progress: Progress | None = None,
    access: Access = ANYONE,
    keep: Keep | None = None,
) -> Search:
    """Searches on one setting. Arrivals are Poisson, or constant where `wishes` says so; its rate is where to start.

    Every probe is a fresh process with a seed of its own. Ctrl-C, or an error after the first probe, leaves the probes so far; an
    error in the first is raised.
    """
    pattern, start_qps = _start(wishes.arrivals)
    probes: list[Probe] = []
    recordings: dict[float, Recording] = {}
    while isinstance(step := next_step(probes, start_qps), Try):
        number, chosen = len(probes), step

        def tell(share: float, number: int = number, chosen: Try = chosen) -> None:
            if progress is not None:
                progress(str(chosen), (number + share) / max(USUAL_PROBES, number + 2))

        tell(0.0)
        seeded = replace(wishes, seed=wishes.seed + number)
        try:
            is_alone = step.qps == ONE_AT_A_TIME
            scenario = _one_at_a_time(seeded, slo) if is_alone else _at_rate(step, pattern, seeded, slo)
            recording = measure(setting, scenario, environment, tell, access)
        except KeyboardInterrupt:  # before its generator measured anything
            return Search(setting, slo, tuple(probes), None, None, was_stopped=True)
        except EdgewardError as error:
            if not probes:
                raise
            return Search(setting, slo, tuple(probes), None, None, failed=str(with_start(setting, error)))
        if keep is not None:
            keep(recording)
        if recording.header["was_stopped"]:
            return Search(setting, slo, tuple(probes), None, None, was_stopped=True)
        probes.append(probe_of(recording, step, slo))
        recordings[step.qps] = recording  # the confirmation comes last, and is the longest
    best = None if step.qps is None else recordings[step.qps]
    return Search(setting, slo, tuple(probes), step, best)


@dataclass(frozen=True, slots=True)
class Searches:
    """A search on every setting, as `find-max.json` has them."""

    slo: Slo
    searches: tuple[Search, ...]
    failed: tuple[str, ...]
    """A sentence for each that could not be made, or not to its end."""
    environment: Mapping[str, Any]

    @property
    def was_stopped(self) -> bool:
        """A person ended it early (Ctrl-C)."""
        return any(search.was_stopped for search in self.searches)

    def to_dict(self) -> dict[str, Any]:
        """All of it in types that `json` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "slo_ms": self.slo.bound_ms,
            "was_stopped": self.was_stopped,
            "searches": [search.to_dict() for search in self.searches],
            "failed": list(self.failed),
            "environment": dict(self.environment),
        }


def find_all(
    settings: Sequence[Setting],
    slo: Slo,
    wishes: Wishes,
    folder: Path,
    progress: Progress | None = None,
    access: Access = ANYONE,
) -> Searches:
    """A search on every setting; every probe saved in `folder` as it ends, and all that was found in its `find-max.json`.

    Ctrl-C ends with the search that it stopped. `WrongUseError` for wishes that no search can have.
    """
    pattern, start_qps = _start(wishes.arrivals)
    _at_rate(Try(start_qps, False, ""), pattern, wishes, slo)
    prepare(folder)
    environment = read_environment()
    searches: list[Search] = []
    failed: list[str] = []
    for number, setting in enumerate(settings):
        probes = count(1)

        def keep(
            recording: Recording, number: int = number, setting: Setting = setting, probes: Iterator[int] = probes
        ) -> None:
            recording.save(folder / f"{number:03d}-{file_name(setting, 'find')}-{next(probes):02d}.npz")

        def tell(what: str, share: float, number: int = number, setting: Setting = setting) -> None:
            if progress is not None:
                progress(f"{setting}: {what}", (number + share) / len(settings))

        try:
            search = find_max(setting, slo, wishes, environment, tell, access, keep)
        except EdgewardError as error:
            failed.append(f"{setting}: {with_start(setting, error)}")
            continue
        searches.append(search)
        if search.failed is not None:
            failed.append(f"{setting}: {search.reason}")
        if search.was_stopped:
            break
    done = Searches(slo, tuple(searches), tuple(failed), environment)
    (folder / FOUND_FILE).write_text(json.dumps(done.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return done


def probe_of(recording: Recording, tried: Try, slo: Slo) -> Probe:
    """What a recording says of the rate that was tried."""
    header = recording.header
    if header["has_fallen_behind"]:
        reason = f"the target fell more than {header['scenario']['give_up_s']:g} s behind"
        if header["invalid_reason"] is None:
            return Probe(tried.qps, False, reason, tried.is_confirmation)
    if header["invalid_reason"] is not None and recording.is_ok.any():
        return Probe(tried.qps, False, header["invalid_reason"], tried.is_confirmation, is_generator_limit=True)
    held = slo.judge(recording.samples.latency_ms[recording.is_ok], len(recording.samples))
    # Answered or not: a refusal at once is quick, and a request that timed out is slow.
    late = int((recording.samples.latency_ms > slo.bound_ms).sum())
    is_too_slow = tried.qps == ONE_AT_A_TIME and 2 * late > len(recording.samples)
    return Probe(tried.qps, held.is_held, held.reason, tried.is_confirmation, is_too_slow=is_too_slow)


def _at_rate(tried: Try, pattern: Pattern, wishes: Wishes, slo: Slo) -> Scenario:
    """Open loop at one rate, of requests as large as `wishes` says; ends early where the promise cannot hold any more."""
    length_s = duration_s(tried.qps, slo, wishes.duration_s, is_confirmation=tried.is_confirmation)
    arrivals = Arrivals(pattern, (tried.qps,))
    planned = len(arrivals.times(length_s, wishes.seed))
    return replace(
        plan("server", replace(wishes, arrivals=arrivals, duration_s=length_s)),
        rows=1 if wishes.rows is None else wishes.rows,
        give_up_s=max(LEAST_GIVE_UP_S, GIVE_UP_BOUNDS * slo.bound_ms / 1000),
        bound_ms=slo.bound_ms,
        most_over=most_above(planned, slo.share),
    )


def _one_at_a_time(wishes: Wishes, slo: Slo) -> Scenario:
    """Closed loop, one request in flight, until there are enough to judge or too many over the bound."""
    requests = requests_to_judge(slo)
    most_over = most_above(requests, slo.share)
    # All but so many are within the bound, or it ends: it never ends for want of time.
    longest_s = requests * slo.bound_ms / 1000 + (most_over + 1) * wishes.timeout_s
    return replace(
        plan("single", replace(wishes, requests=requests, duration_s=longest_s)),
        rows=1 if wishes.rows is None else wishes.rows,
        bound_ms=slo.bound_ms,
        most_over=most_over,
    )


def _start(arrivals: Arrivals | None) -> tuple[Pattern, float]:
    if arrivals is None:
        return Pattern.POISSON, DEFAULT_START_QPS
    if arrivals.pattern not in (Pattern.POISSON, Pattern.CONSTANT):
        raise WrongUseError(
            f"a search for the highest rate chooses the rates itself; give poisson:RATE or constant:RATE, not {arrivals}"
        )
    return arrivals.pattern, arrivals.rates[0]

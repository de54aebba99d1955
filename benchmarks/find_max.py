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
from benchmarks.finding import DEFAULT_START_QPS, Found, Probe, Slo, Try, duration_s, next_step
from benchmarks.measure import measure
from benchmarks.row import backend_used, model_sha256
from benchmarks.run import FOUND_FILE, file_name, prepare, with_start
from benchmarks.samples import SCHEMA_VERSION, Recording
from benchmarks.scenarios import Wishes, plan
from benchmarks.settings import ANYONE, Access, Setting
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
    """One search: every probe, and what was found (None where a person stopped it)."""

    setting: Setting
    slo: Slo
    probes: tuple[Probe, ...]
    found: Found | None
    at_best: Recording | None
    """The longest recording at the rate that was found."""

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
            "reason": "stopped" if self.found is None else self.found.reason,
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

    Every probe is a fresh process with a seed of its own. On Ctrl-C the probes so far are returned.
    """
    pattern, start_qps = _start(wishes.arrivals)
    probes: list[Probe] = []
    recordings: dict[float, Recording] = {}
    while isinstance(step := next_step(probes, start_qps), Try):
        number, chosen = len(probes), step

        def tell(share: float, number: int = number, chosen: Try = chosen) -> None:
            if progress is not None:
                what = "confirming" if chosen.is_confirmation else "trying"
                progress(f"{what} {chosen.qps:g}/s", (number + share) / max(USUAL_PROBES, number + 2))

        tell(0.0)
        length_s = duration_s(step.qps, slo, wishes.duration_s, is_confirmation=step.is_confirmation)
        scenario = plan(
            "server",
            replace(
                wishes,
                arrivals=Arrivals(pattern, (step.qps,)),
                duration_s=length_s,
                requests=None,
                seed=wishes.seed + number,
            ),
        )
        scenario = replace(scenario, give_up_s=max(LEAST_GIVE_UP_S, GIVE_UP_BOUNDS * slo.bound_ms / 1000))
        try:
            recording = measure(setting, scenario, environment, tell, access)
        except KeyboardInterrupt:  # before its generator measured anything
            return Search(setting, slo, tuple(probes), None, None)
        if keep is not None:
            keep(recording)
        if recording.header["was_stopped"]:
            return Search(setting, slo, tuple(probes), None, None)
        probes.append(probe_of(recording, step, slo))
        recordings[step.qps] = recording  # the confirmation comes last, and is the longest
    best = None if step.qps is None else recordings[step.qps]
    return Search(setting, slo, tuple(probes), step, best)


def find_all(
    settings: Sequence[Setting],
    slo: Slo,
    wishes: Wishes,
    folder: Path,
    progress: Progress | None = None,
    access: Access = ANYONE,
) -> tuple[list[Search], list[str]]:
    """A search on every setting, and a sentence for each that could not be made; every probe saved in `folder` as it ends.

    `find-max.json` there has the searches. Ctrl-C ends with the search that it stopped.
    """
    _start(wishes.arrivals)
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
            searches.append(find_max(setting, slo, wishes, environment, tell, access, keep))
        except EdgewardError as error:
            failed.append(f"{setting}: {with_start(setting, error)}")
            continue
        if searches[-1].found is None:
            break
    document = {
        "schema_version": SCHEMA_VERSION,
        "slo_ms": slo.bound_ms,
        "searches": [search.to_dict() for search in searches],
        "failed": failed,
        "environment": environment,
    }
    (folder / FOUND_FILE).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return searches, failed


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
    return Probe(tried.qps, held.is_held, held.reason, tried.is_confirmation)


def _start(arrivals: Arrivals | None) -> tuple[Pattern, float]:
    if arrivals is None:
        return Pattern.POISSON, DEFAULT_START_QPS
    if arrivals.pattern not in (Pattern.POISSON, Pattern.CONSTANT):
        raise WrongUseError(
            f"a search for the highest rate chooses the rates itself; give poisson:RATE or constant:RATE, not {arrivals}"
        )
    return arrivals.pattern, arrivals.rates[0]

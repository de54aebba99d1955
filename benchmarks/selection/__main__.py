"""Measures selection on every model and writes `selection-DATE.json` and `.md`.

Bundles are built first, where they are not kept from before; --build-only does no more than that, so that the quiet machine is not
waited for. It stops after --minutes of measuring: what was measured until then is written, and the models that were not reached
are named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.selection.bundles import NotBuiltError, left_out, source_of
from benchmarks.selection.models import SHARED, Skipped, subjects
from benchmarks.selection.oracle import FULL, QUICK, Effort, consult
from benchmarks.selection.page import markdown
from benchmarks.selection.results import Result
from runtime import config
from runtime.backends.registry import all_backends
from runtime.bundle.locate import open_bundles
from runtime.errors import EdgewardError
from runtime.hardware import probe
from runtime.selection import SelectionSettings, choose
from runtime.selection.decide import DEFAULT_AGREEMENT

PAIR_TIMEOUT_S = 300.0
MOST_MINUTES = 12.0
MOST_TRIES = 4
"""Of one model, on a machine that does not stay the same."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 also when a bar is missed: it is information."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer models, shorter turns")
    parser.add_argument("--only", action="append", metavar="MODEL", help="this model alone; may be given again")
    parser.add_argument("--budget", type=float, default=SelectionSettings().budget_s, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=MOST_MINUTES, help="no model is begun after so many")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where bundles are built, once")
    parser.add_argument(
        "--build-only", action="store_true", help="build the bundles that are missing, and measure nothing"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    chosen = parser.parse_args(arguments)
    started, environment = now_utc(), read_environment()
    effort = QUICK if chosen.quick else FULL
    folder = chosen.models or config.home() / "benchmarks" / "selection"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [s for s in subjects() if (s.name in chosen.only if chosen.only else s.is_quick or not chosen.quick)]
    results: list[Result] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    sources: dict[str, str] = {}
    for subject in wanted:
        began = time.monotonic()
        try:
            sources[subject.name] = source_of(subject, folder)
        except Skipped as reason:
            skipped[subject.name] = str(reason)
        except (NotBuiltError, subprocess.TimeoutExpired) as error:
            failed[subject.name] = str(error)
        else:
            print(f"{subject.name}: bundle at hand after {time.monotonic() - began:.0f} s", flush=True)
    if chosen.build_only:
        for name, why in {**skipped, **failed}.items():
            print(f"{name}: {why}", file=sys.stderr)
        return 0
    end = time.monotonic() + 60 * chosen.minutes
    stem = f"selection-{started[:10]}{'-quick' if chosen.quick else ''}"

    def write() -> str:
        """The table; after every model, so that a run that is cut short leaves what it has."""
        if hasattr(os, "getloadavg"):
            environment["load_after"] = [round(value, 2) for value in os.getloadavg()]
        table = markdown(results, skipped, failed, environment, started)
        raw = {
            "started": started,
            "environment": environment,
            "quick": chosen.quick,
            "seed": chosen.seed,
            "results": [result.to_dict() for result in results],
            "skipped": skipped,
            "failed": failed,
        }
        # Engines name files by their whole path; whoever reads the results does not want this machine's.
        text = (
            json.dumps(raw, indent=1, ensure_ascii=False).replace(str(folder), "MODELS").replace(str(SHARED), "SHARED")
        )
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / f"{stem}.json").write_text(text.replace(str(ROOT), "ROOT") + "\n", encoding="utf-8")
        (chosen.output / f"{stem}.md").write_text(table, encoding="utf-8")
        return table

    for name, source in sources.items():
        if time.monotonic() > end:
            skipped[name] = f"not begun within {chosen.minutes:g} minutes"
            continue
        try:
            results.append(measure(name, source, effort, chosen.budget, chosen.seed))
        except (EdgewardError, NotMeasuredError, subprocess.TimeoutExpired) as error:
            # A model that cannot be measured is a result, too: it is named, and misses every bar.
            failed[name] = " ".join(str(error).split())[:300]
            print(f"{name}: {failed[name]}", file=sys.stderr, flush=True)
            continue
        last = results[-1]
        gain = "" if last.gain is None else f", gain {last.gain:.2f} ×"
        print(f"{last.name}: {last.chosen}; regret {last.regret:.2%}{gain}, start {last.start:.2f} ×", flush=True)
        write()
    if not results:
        print("nothing was measured", file=sys.stderr)
        return 0
    print(write())
    return 0


class NotMeasuredError(Exception):
    """A model whose pairs came to nothing; the text says why."""


def measure(name: str, source: str, effort: Effort, budget_s: float, seed: int) -> Result:
    """Chooses for one model as a first load does, and then doubts it; all of it again where the machine changed meanwhile."""
    for tries in range(1, MOST_TRIES + 1):
        result = replace(_measure_once(name, source, effort, budget_s, seed), tries=tries)
        if result.is_steady:
            break
    return result


def _measure_once(name: str, source: str, effort: Effort, budget_s: float, seed: int) -> Result:
    with tempfile.TemporaryDirectory() as home:
        bundle = open_bundles(source, Path(home))[-1]
        settings = SelectionSettings(budget_s=budget_s, seed=seed)
        choice = choose(bundle, probe(), all_backends(), settings, Path(home) / "calibrations", None)
        verdict = consult(bundle, choice, effort, seed + 1)
        command = [
            sys.executable,
            "-m",
            "benchmarks.selection.pair",
            source,
            home,
            str(effort.pairs),
            str(effort.turn_s),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PAIR_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise NotMeasuredError(f"gain and start were not measured: {done.stderr[-300:]}")
        pair = json.loads(done.stdout.splitlines()[-1])
    if not pair["from_cache"] or pair["serving"] != choice.selected.candidate.key:
        raise NotMeasuredError(f"the choice was measured again by its own process; it serves {pair['serving']}")
    selected = choice.selected
    floor = bundle.manifest.targets.accuracy_floor if bundle.manifest is not None else None
    return Result(
        name=name,
        chosen=selected.candidate.key,
        best=verdict.best,
        regret=verdict.regret,
        candidates=len(choice.ranked),
        variants=[variant.name for variant in bundle.variants],
        left_out=dict(left_out(bundle)),
        rejected=[str(rejected) for rejected in choice.rejected if not rejected.is_misfit],
        accuracy=selected.accuracy,
        agreement=selected.agreement,
        floor=DEFAULT_AGREEMENT if floor is None else floor,
        trial_s=choice.trial_s,
        measuring_s=choice.measuring_s,
        loading_s=choice.loading_s,
        budget_s=budget_s,
        gain_turns=pair["gain"],
        start_turns=pair["start"],
        cold_start_turns=pair["cold_start"],
        is_start_bare=pair["is_start_bare"],
        calibrated_ms=selected.latency.median_ms if selected.rows == 1 else None,
        first_turns=pair["first"],
        ms_by_candidate=verdict.ms_by_candidate,
        regret_pairs=[list(both) for both in verdict.pairs],
        warnings=[*choice.warnings, *choice.doubts],
    )


if __name__ == "__main__":
    sys.exit(main())

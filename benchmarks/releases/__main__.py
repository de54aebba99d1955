"""Simulates every scenario and writes `releases-DATE.json` and `.md`; a quarter of an hour of CPU, --quick one minute."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases import fleet, shares, watches
from benchmarks.releases.outcomes import Row
from benchmarks.releases.report import markdown

Scenario = Callable[[int, int], Iterator[Row]]

RUNS: Final = 10_000
# The whole code takes some 20,000 requests a second, and these runs have up to 30,000 each.
WATCH_RUNS: Final = 100
# Likewise one device after another, through `WaveWatch`.
FLEET_RUNS: Final = 1000
QUICK_PART: Final = 0.02

BATCHED: Final[tuple[tuple[str, Scenario], ...]] = (
    ("S1", shares.no_difference),
    ("S2", shares.worse_candidate),
    ("S3", shares.paired_shadow),
    ("S4", shares.non_inferiority),
    ("S5", shares.late_labels),
)
FLEETS: Final[tuple[tuple[str, Scenario], ...]] = (("S8", fleet.waves),)
WATCHED: Final[tuple[tuple[str, Scenario], ...]] = (
    ("S2", watches.one_guard),
    ("S1 S2", watches.whole_watch),
    ("S5", watches.late_labels_of_watch),
    ("S6", watches.slower_candidate),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 also when a bar is missed: it is information."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.releases", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the runs")
    parser.add_argument("--only", action="append", metavar="S", help="this scenario alone; may be given again")
    parser.add_argument("--runs", type=int, default=RUNS, help="of the batched simulations")
    parser.add_argument("--watch-runs", type=int, default=WATCH_RUNS, help="of those through GuardWatch")
    parser.add_argument("--fleet-runs", type=int, default=FLEET_RUNS, help="of those through WaveWatch")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    chosen = parser.parse_args(arguments)
    part = QUICK_PART if chosen.quick else 1.0
    started, environment, begun = now_utc(), read_environment(), time.process_time()
    rows: list[Row] = []
    for scenarios, runs in ((BATCHED, chosen.runs), (FLEETS, chosen.fleet_runs), (WATCHED, chosen.watch_runs)):
        for name, simulate in scenarios:
            if chosen.only and not set(chosen.only) & set(name.split()):
                continue
            for one in simulate(max(round(part * runs), 5), chosen.seed):
                rows.append(one)
                print(f"{one.scenario} {one.rule}, {one.case}: {one.decided:.2%}, median {one.median}", flush=True)
    if not rows:
        print(f"no scenario is called {chosen.only}; there are S1 to S6 and S8", file=sys.stderr)
        return 2
    table = markdown(rows, environment, started, chosen.seed)
    print(table)
    chosen.output.mkdir(parents=True, exist_ok=True)
    stem = f"releases-{started[:10]}{'-quick' if chosen.quick else ''}"
    raw = {
        "started": started,
        "environment": environment,
        "seed": chosen.seed,
        "cpu_s": round(time.process_time() - begun, 1),
        "rows": [one.to_dict() for one in rows],
    }
    (chosen.output / f"{stem}.json").write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (chosen.output / f"{stem}.md").write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

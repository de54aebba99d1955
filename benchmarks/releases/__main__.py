"""Simulates every scenario and writes `releases-DATE.json` and `.md`; half an hour of CPU, --quick one minute."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.releases import fleet, shares, tails, watches
from benchmarks.releases.outcomes import Row
from benchmarks.releases.report import markdown

Simulate = Callable[[int, int], Iterator[Row]]

RUNS: Final = 10_000
# The whole code, one request after another, takes some 30,000 to 60,000 a second, and these runs have up to 30,000 each.
WATCH_RUNS: Final = 200
QUICK_PART: Final = 0.02

BATCHED: Final[tuple[tuple[str, Simulate], ...]] = (
    ("S1", shares.no_difference),
    ("S2", shares.worse_candidate),
    ("S3", shares.paired_shadow),
    ("S4", shares.non_inferiority),
    ("S5", shares.late_labels),
    ("S6", tails.slower_candidate),
    ("S8", fleet.waves),
)
WATCHED: Final[tuple[tuple[str, Simulate], ...]] = (
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
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    chosen = parser.parse_args(arguments)
    part = QUICK_PART if chosen.quick else 1.0
    started, environment = now_utc(), read_environment()
    recording = Recording(chosen.output / f"releases-{started[:10]}{'-quick' if chosen.quick else ''}", chosen.seed)
    is_known = False
    for scenarios, runs in ((BATCHED, chosen.runs), (WATCHED, chosen.watch_runs)):
        for name, simulate in scenarios:
            if chosen.only and not set(chosen.only) & set(name.split()):
                continue
            is_known = True
            begun = time.process_time()
            for one in simulate(max(round(part * runs), 5), chosen.seed):
                print(f"{one.scenario} {one.rule}, {one.case}: {one.decided:.2%}, median {one.median}", flush=True)
                now = time.process_time()
                recording.add(one, now - begun, environment, started)
                begun = now
    if not is_known:
        print(f"no scenario is called {chosen.only}; there are S1 to S6 and S8", file=sys.stderr)
        return 2
    print(recording.table.read_text(encoding="utf-8"))
    return 0


class Recording:
    """Today's file: written after each row, which takes the place of the one that it had of the same seed."""

    def __init__(self, stem: Path, seed: int) -> None:
        self.table = stem.with_suffix(".md")
        self._raw = stem.with_suffix(".json")
        self._seed = seed
        known: dict[str, Any] = {"seed": seed, "rows": [], "cpu_s": 0.0}
        if self._raw.exists() and (read := json.loads(self._raw.read_text(encoding="utf-8")))["seed"] == seed:
            known = read
        self._rows = {(row["scenario"], row["rule"], row["case"]): row for row in known["rows"]}
        self._cpu_s = float(known["cpu_s"])

    def add(self, one: Row, cpu_s: float, environment: dict[str, Any], started: str) -> None:
        """Takes a row in and writes both files."""
        self._rows[one.scenario, one.rule, one.case] = one.to_dict()
        self._cpu_s += cpu_s
        raw = {
            "started": started,
            "environment": environment,
            "seed": self._seed,
            "cpu_s": round(self._cpu_s, 1),
            "rows": list(self._rows.values()),
        }
        self._raw.parent.mkdir(parents=True, exist_ok=True)
        self._raw.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        made = [Row.from_dict(row) for row in self._rows.values()]
        self.table.write_text(markdown(made, environment, started, self._seed), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

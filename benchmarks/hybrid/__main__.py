"""Measures hybrid routing and writes `hybrid-DATE.json` and `.md`; some two and a half minutes a seed, --quick one."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.hybrid.results import Contestant, Run, load, markdown, recoveries
from benchmarks.hybrid.run import WISHES
from benchmarks.hybrid.run import run as run_trace
from benchmarks.hybrid.trace import Phase, phases, plan
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.serving.server import run as run_loop

PRIVATE_SHARE = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 also when a bar is missed: it is information."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hybrid", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="phases of 3 s; recoveries of 5 s do not fit in")
    parser.add_argument(
        "--rate", type=float, default=12.0, metavar="PER_S", help="requests a second to each contestant"
    )
    parser.add_argument("--deadline", type=float, default=0.6, metavar="SECONDS")
    parser.add_argument("--phase", type=float, default=7.0, metavar="SECONDS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one trace each, all in one report")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="where the programs' logs go")
    chosen = parser.parse_args(arguments)
    phase_s = 3.0 if chosen.quick else chosen.phase
    environment, started = read_environment(), now_utc()
    samples = read_bundle(shipped_bundles()["digits"]).samples()
    assert samples is not None, "the bundle that ships has samples"
    rows = samples.inputs["image"]
    sequence = phases()
    runs = []
    for seed in chosen.seeds:
        trace = plan(len(sequence), phase_s, chosen.rate, len(rows), PRIVATE_SHARE, seed)
        with tempfile.TemporaryDirectory(prefix="edgeward-hybrid-") as made:
            folder = Path(made) if chosen.keep_logs is None else chosen.keep_logs / f"seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            contestants = run_loop(run_trace(tuple(WISHES), trace, sequence, phase_s, chosen.deadline, rows, folder))
        runs.append(Run(trace, contestants))
    setup = {
        "started": started,
        "model": "digits",
        "rate_per_s": chosen.rate,
        "deadline_s": chosen.deadline,
        "phase_s": phase_s,
        "private_share": PRIVATE_SHARE,
        "seeds": chosen.seeds,
    }
    table = markdown(runs, sequence, setup, environment)
    print(table)
    chosen.output.mkdir(parents=True, exist_ok=True)
    stem = f"hybrid-{started[:10]}{'-quick' if chosen.quick else ''}"
    raw = {
        "setup": setup,
        "environment": environment,
        "phases": [phase.name for phase in sequence],
        "phases_beyond_the_bar": [phase.name for phase in sequence if phase.is_beyond],
        "runs": [
            {
                "seed": seed,
                "trace": [asdict(planned) for planned in run.trace],
                "contestants": [raw_of(one, run, sequence, phase_s) for one in run.contestants],
            }
            for seed, run in zip(chosen.seeds, runs, strict=True)
        ],
    }
    (chosen.output / f"{stem}.json").write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    (chosen.output / f"{stem}.md").write_text(table)
    return 0


def raw_of(one: Contestant, run: Run, sequence: Sequence[Phase], phase_s: float) -> dict[str, Any]:
    """A contestant's raw numbers."""
    return {
        "name": one.name,
        "asked": dict(one.asked),
        "calls_on_link": one.calls_on_link,
        "hedges": dict(one.hedges),
        "retries": one.retries,
        "retries_held_back": one.retries_held_back,
        "refused_at_once": one.refused_at_once,
        "leaks": one.leaks,
        "load": load(one),
        "recovery_s": {
            name: seconds if seconds != float("inf") else None
            for name, seconds in recoveries(one, run.trace, sequence, phase_s).items()
        },
        "outcomes": [[round(o.took_s, 5), o.served_by, o.reason[:120]] for o in one.outcomes],
    }


if __name__ == "__main__":
    raise SystemExit(main())

"""Kills the agent, and now and then the gateway, at random moments while requests are submitted and replayed; counts what is lost.

    python -m benchmarks.spool_kills --kills 200 --out benchmarks/results/spool_kills.json

What happens in a life, and what counts as lost, stands in `benchmarks.spool_trial`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import now_utc, read_environment
from benchmarks.spool_trial import Tally, Trial

SCHEMA_VERSION = 1


def main() -> int:
    """Runs it and adds the result to the file; 1 when anything was lost or differed, or nothing was tried."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spool_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON; what earlier runs left in it is added up")
    given = parser.parse_args()
    environment = read_environment()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spool-kills-") as home:
        tally = Trial(Path(home), given.seed).run(given.kills)
    run = {
        "when": now_utc(),
        "seed": given.seed,
        "seconds": round(time.monotonic() - started, 1),
        **tally.to_dict(),
        "environment": environment,
    }
    if given.out is not None:
        write(given.out, run)
    for name, value in tally.to_dict().items():
        print(f"{name:18} {value}")
    if not tally.deduplicated:
        print("no answer came from what the gateway had kept: these kills show nothing of that")
    return 1 if tally.lost or tally.different_results or tally.wrong_answers or not tally.deduplicated else 0


def write(file: Path, run: dict[str, Any]) -> None:
    """Adds a run to those in `file`, and all of them up."""
    runs = [*(json.loads(file.read_text())["runs"] if file.exists() else []), run]
    total = {name: sum(one.get(name, 0) for one in runs) for name in Tally().to_dict()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "total": total, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

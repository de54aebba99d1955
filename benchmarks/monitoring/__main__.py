"""`python -m benchmarks.monitoring`: measures, prints the tables, and saves them with their raw figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.monitoring import cost, images, page, speed, table
from benchmarks.monitoring.evidently_told import gathered
from benchmarks.monitoring.line_a_run import lines_of
from benchmarks.monitoring.results import SCHEMA_VERSION, to_markdown
from benchmarks.monitoring.streams import CHANGES, NULLS

PARTS = ("cost", "speed", "table", "images", "page")
EVIDENTLY_TIMEOUT_S = 7200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what `--only` names; 0 also where a bar is missed: it is information."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--runs", type=int, default=200, help="of each drift scenario")
    parser.add_argument("--image-runs", type=int, default=20)
    parser.add_argument(
        "--rounds", type=int, default=200, help="of the server on, off and off once more, three turns each"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument(
        "--evidently", metavar="PYTHON", help="of an environment with Evidently; without, it is left out"
    )
    parser.add_argument("--evidently-runs", type=int, default=20)
    parser.add_argument(
        "--evidently-told",
        type=Path,
        metavar="FILE",
        help="lines that `PYTHON benchmarks/monitoring/evidently_windows.py RUNS [SCENARIO ...]` printed before",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results")
    parser.add_argument(
        "--name", help="of the two files written there (monitoring, and the parts where --only names some)"
    )
    given = parser.parse_args(arguments)
    parts = given.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"--only names {', '.join(unknown)}; expected some of {', '.join(PARTS)}")
    # Some parts alone must not replace the results of all.
    name = given.name or "-".join(["monitoring", *(parts if set(parts) != set(PARTS) else [])])
    results: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "when": now_utc(), "environment": read_environment()}
    if "cost" in parts:
        _say("a server with statistics on and off, in turn")
        results["cost"] = cost.why_not() or cost.measure(given.rounds, given.seconds)
    if "speed" in parts:
        _say("counting")
        results["speed"] = speed.measure()
    if "table" in parts:
        outcomes = []
        for change in (*NULLS, *CHANGES):
            _say(change.name)
            outcomes.append(table.measure(change, given.runs).to_dict())
        results["table"] = outcomes
        results["evidently"], results["evidently_why_not_all"] = _evidently(
            given.evidently, given.evidently_runs, given.evidently_told
        )
    if "images" in parts:
        _say("digits")
        results["images"] = images.measure(given.image_runs)
    if "page" in parts:
        _say("the page in a browser")
        results["page"] = page.why_not() or page.measure().to_dict()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = to_markdown(results)
    (given.out / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def _evidently(python: str | None, runs: int, told: Path | None) -> tuple[list[dict[str, Any]], str | None]:
    """The runs that were told, and why there are not all of them."""
    if told is not None:
        return gathered(told.read_text(encoding="utf-8").splitlines()), None
    if python is None:
        return [], "missing: name the Python of an environment that has it with --evidently"
    _say("Evidently")
    command = [python, str(Path(__file__).with_name("evidently_windows.py")), str(runs)]
    lines, why_ended = lines_of(command, EVIDENTLY_TIMEOUT_S)
    return gathered(lines), why_ended


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

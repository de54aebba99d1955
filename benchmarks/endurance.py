"""What a server holds in memory over a million requests, on each of our transports.

    python -m benchmarks.endurance --requests 1000000 --out benchmarks/results/endurance.json

`edgeward serve` with digits, one row a request from h2load on 32 connections. Bar: from a tenth of the requests to the end the
resident memory grows by no more than 5 %. Other programs may run beside it: time is no part of the result.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.environment import now_utc, read_environment
from benchmarks.serving import h2load
from benchmarks.serving.contestants import ours
from benchmarks.serving.endurance import MOST_GROWTH, Endurance, endure
from benchmarks.serving.exchange import Row
from benchmarks.serving.run import VARIANT
from runtime.bundle.locate import shipped_bundles

SCHEMA_VERSION = 1


def measure(requests: int, limit_s: float, only: list[str]) -> list[Endurance]:
    """One after the other; `only` by name, all without it."""
    with tempfile.TemporaryDirectory(prefix="edgeward-endurance-") as folder:
        scratch = Path(folder)
        model = scratch / "digits.onnx"
        model.write_bytes((shipped_bundles()["digits"] / VARIANT).read_bytes())
        contestants = [each for each in ours(model, Row.of_digits(), scratch) if not only or each.name in only]
        return [endure(each, requests, limit_s, scratch, _progress) for each in contestants]


def main() -> int:
    """Measures, writes and prints; 1 where a bar is missed or not all requests were asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that each transport may take")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this transport alone; again for more"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if (absent := h2load.why_absent()) is not None:
        print(f"error: {absent}", file=sys.stderr)
        return 1
    environment = read_environment()
    results = measure(given.requests, given.limit, given.only)
    if given.out is not None:
        rows = [{**asdict(each), "growth": each.growth} for each in results]
        said = {"schema_version": SCHEMA_VERSION, "when": now_utc(), "results": rows, "environment": environment}
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(said, indent=1) + "\n")
    for each in results:
        first, last = each.memory_bytes[1] / 1e6, each.memory_bytes[-1] / 1e6
        print(
            f"{each.contestant}: {each.requests[-1]:,} of {each.wanted:,} requests, {first:.0f} MB after {each.requests[1]:,}, "
            f"{last:.0f} MB at the end, {each.growth:+.2%} (bar {MOST_GROWTH:.0%})"
        )
    is_held = all(each.growth <= MOST_GROWTH and each.requests[-1] == each.wanted for each in results)
    return 0 if is_held else 1


def _progress(what: str, share: float) -> None:
    print(f"{share:4.0%} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

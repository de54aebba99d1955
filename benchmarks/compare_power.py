"""Whether `bench compare` is right: a server against itself, and against one that takes 10 % longer, again and again.

    python -m benchmarks.compare_power --output benchmarks/results     # sixteen minutes

Everything as the command does it: fresh generator processes, A/B/B/A, over a real socket; each comparison has two fresh
servers (processes), whose answers take a known time. What is counted are the verdicts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.compare import DEFAULT_ROUNDS, compare_settings
from benchmarks.comparison import Comparison
from benchmarks.environment import ROOT, now_utc, read_environment
from benchmarks.fake_server import NAME
from benchmarks.scenarios import Scenario, Wishes, plan
from benchmarks.settings import Setting
from benchmarks.significance import Verdict
from benchmarks.statistics import percentile_name
from runtime.errors import MachineError

ANSWER_S = 0.004
SLOWDOWN = 1.10
COMPARISONS = 20
# In each of the two measurements a side and round: together more than enough for p99 (662).
REQUESTS = 112
# A core each: most of a comparison is starting generators.
AT_ONCE = 2
_WARM_UP_S = 0.05


def compare_once(slowdown: float, rounds: int, scenario: Scenario) -> list[Comparison]:
    """Two fresh servers, compared once."""
    with _serving(ANSWER_S) as a, _serving(ANSWER_S * slowdown) as b:
        compared = compare_settings(Setting(NAME, a), Setting(NAME, b), scenario, rounds)
    if compared.failed is not None:
        raise MachineError(f"after {compared.rounds} of {rounds} rounds: {compared.failed}")
    return compared.comparisons


def count(comparisons: Sequence[Comparison]) -> dict[str, dict[str, int]]:
    """How often each verdict, by quantile."""
    found: dict[str, Counter[str]] = {}
    for comparison in comparisons:
        found.setdefault(percentile_name(comparison.share), Counter())[comparison.judgement.verdict.value] += 1
    return {name: dict(counter) for name, counter in found.items()}


def to_markdown(document: dict[str, Any]) -> str:
    """The counts as one table, and what they are of."""
    environment = document["environment"]
    lines = [
        f"# Verdicts of {document['comparisons']} comparisons each",
        "",
        f"{environment['cpu']}, {environment['hardware']['cores']['threads']} threads allowed; kernel {environment['kernel']}; "
        f"Python {environment['python']}; commit {environment['commit']}; {document['when']}; load average before "
        f"{environment['load_before'][0]}; took {document['took_s']:.0f} s.",
        f"A server that sleeps {document['answer_s'] * 1000:g} ms a request against another one, {document['rounds']} rounds of "
        f"A/B/B/A, {document['requests']} requests a measurement, each in a fresh process; {document['at_once']} comparisons at "
        "once, which disturb each other.",
        "",
        f"| B | quantile | {' | '.join(Verdict)} | ratios, median |",
        "|---|---|" + "---:|" * (len(Verdict) + 1),
    ]
    for name, part in document["parts"].items():
        for quantile, counts in part["counts"].items():
            ratios = sorted(c["ratio"] for c in part["comparisons"] if c["quantile"] == quantile)
            cells = [str(counts.get(verdict.value, 0)) for verdict in Verdict]
            lines.append(f"| {name} | {quantile} | {' | '.join(cells)} | {ratios[len(ratios) // 2]:.3f} |")
    return "\n".join(lines) + "\n"


@contextmanager
def _serving(seconds: float) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.fake_server", f"{seconds:.6f}"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()


def main() -> None:
    """Measures, writes both files, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS, help="of each kind")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of one measurement")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="comparisons beside each other")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR")
    given = parser.parse_args()
    environment, started = read_environment(), time.monotonic()
    scenario = plan("single", Wishes(duration_s=60.0, requests=given.requests, warm_up_s=_WARM_UP_S))
    kinds = {"the same": 1.0, f"{SLOWDOWN - 1:.0%} slower": SLOWDOWN}
    parts: dict[str, list[Comparison]] = {name: [] for name in kinds}
    order = [name for _ in range(given.comparisons) for name in kinds]
    with ThreadPoolExecutor(given.at_once) as pool:
        made = pool.map(lambda name: compare_once(kinds[name], given.rounds, scenario), order)
        for number, (name, found) in enumerate(zip(order, made, strict=True), 1):
            parts[name] += found
            print(f"{number} of {len(order)}: {name}", file=sys.stderr, flush=True)
    document = {
        "when": now_utc(),
        "took_s": time.monotonic() - started,
        "environment": environment,
        "answer_s": ANSWER_S,
        "slowdown": SLOWDOWN,
        "comparisons": given.comparisons,
        "rounds": given.rounds,
        "requests": given.requests,
        "at_once": given.at_once,
        "parts": {
            name: {"counts": count(found), "comparisons": [c.to_dict() for c in found]} for name, found in parts.items()
        },
    }
    given.output.mkdir(parents=True, exist_ok=True)
    text = to_markdown(document)
    (given.output / "compare-power.json").write_text(json.dumps(document, indent=1) + "\n")
    (given.output / "compare-power.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()

"""What `evidently_windows` printed, a line a run, gathered by scenario as the table wants it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def gathered(lines: Iterable[str]) -> list[dict[str, Any]]:
    """One entry a scenario, in the order in which they came; of one that was cut short, the runs that it has."""
    by_scenario: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        told = json.loads(line)
        by_scenario.setdefault(told["scenario"], []).append(told)
    return [_scenario(name, runs) for name, runs in by_scenario.items()]


def _scenario(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    delays = [run["delay"] for run in runs]
    return {
        "scenario": name,
        "features": runs[0]["features"],
        "runs": len(runs),
        "false_alarms": sum(run["is_false_alarm"] for run in runs),
        "found": sum(delay is not None for delay in delays),
        "delays": delays,
        "cpu_s": [run["cpu_s"] for run in runs],
        "versions": runs[0]["versions"],
    }

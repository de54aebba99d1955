"""What Evidently's program printed a line a run, as the table wants it; a scenario that was cut short keeps what it has."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.monitoring.evidently_told import gathered
from benchmarks.monitoring.results import to_markdown


def line(scenario: str, seed: int, is_false_alarm: bool, delay: int | None) -> str:
    told: dict[str, Any] = {"scenario": scenario, "features": 10, "seed": seed, "is_false_alarm": is_false_alarm}
    return json.dumps({**told, "delay": delay, "cpu_s": 1.5, "versions": {"evidently": "0.7.23"}})


def test_runs_are_gathered_by_scenario_and_stand_beside_ours() -> None:
    lines = [line("no drift, 10 features", seed, seed < 2, None) for seed in range(5)]
    lines += [line("mean + 1 sd", 0, False, 1000), line("mean + 1 sd", 1, False, None)]
    null, shift = gathered(lines)
    assert (null["runs"], null["false_alarms"], null["cpu_s"]) == (5, 2, [1.5] * 5)
    assert (shift["runs"], shift["found"], shift["delays"]) == (2, 1, [1000, None])
    ours = [{**one, "runs": 200, "false_alarms": 0, "found": 0, "delays": []} for one in (null, shift)]
    environment = {"cpu": "c", "hardware": {"cores": {"threads": 2}}, "platform": "p", "python": "3", "commit": "c"}
    text = to_markdown(
        {"environment": {**environment, "load_before": [0.0]}, "when": "w", "table": ours, "evidently": [null, shift]}
    )
    assert "| no drift, 10 features | 200 | 0 (0.0% to 1.8%) | – | – | 5 | 2 (5.3% to 85.3%) | – | – |" in text
    assert "| 2 | 0 (0.0% to 84.2%) | 1 of 2 | 1,000 |" in text

"""What Evidently's program printed a line a run, as the table wants it; a scenario that was cut short keeps what it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.monitoring import __main__ as program
from benchmarks.monitoring.evidently_told import gathered
from benchmarks.monitoring.line_a_run import lines_of
from benchmarks.monitoring.results import to_markdown
from benchmarks.monitoring.streams import NULLS


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
    assert "\nEvidently: " not in text


@pytest.mark.parametrize(
    ("ending", "timeout_s", "why"),
    [
        ("", 60, None),
        ("raise ValueError('no such preset')", 60, "failed: ValueError: no such preset"),
        ("import time; time.sleep(600)", 3, "stopped after 3 s, with what it had told by then"),
    ],
)
def test_what_was_told_counts_where_the_rest_fails_or_is_late(ending: str, timeout_s: float, why: str | None) -> None:
    told = [line("mean + 1 sd", seed, False, 1000) for seed in range(3)]
    program = f"import sys; print({chr(10).join(told)!r}); sys.stdout.write('{{\"scen'); sys.stdout.flush(); {ending}"
    assert lines_of([sys.executable, "-c", program], timeout_s) == (told, why)


def test_a_run_that_ended_early_has_its_lines_and_the_reason_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [line(NULLS[0].name, seed, False, None) for seed in range(2)]
    monkeypatch.setattr(program, "lines_of", lambda *_: (told, "failed: ValueError: no such preset"))
    (ours,) = gathered([line(NULLS[0].name, 0, False, None)])
    monkeypatch.setattr(program.table, "measure", lambda *_: SimpleNamespace(to_dict=lambda: ours))
    assert program.main(["--only", "table", "--evidently", "python", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "monitoring-table.md").read_text()
    assert "| 2 | 0 (0.0% to 84.2%) | – | – |" in text
    assert "Evidently: failed: ValueError: no such preset" in text
    saved = json.loads((tmp_path / "monitoring-table.json").read_text())
    assert [one["runs"] for one in saved["evidently"]] == [2]

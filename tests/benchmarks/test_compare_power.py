"""The check of `bench compare` by itself, in small: everything is real but the number of comparisons."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import compare_power
from benchmarks.significance import Verdict


@pytest.mark.slow
def test_verdicts_of_real_comparisons_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--comparisons", "1", "--rounds", "1", "--requests", "20", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["compare_power", *words])
    compare_power.main()
    told = json.loads((tmp_path / "compare-power.json").read_text())
    assert list(told["parts"]) == ["the same", "10% slower"]
    for part in told["parts"].values():
        # Too few for p99; one round has no interval, and so no verdict.
        assert part["counts"] == {"p50": {Verdict.INCONCLUSIVE: 1}}
        assert part["comparisons"][0]["n"] == [40, 40]
        assert part["comparisons"][0]["a_ms"] >= compare_power.ANSWER_S * 1000
    slow = told["parts"]["10% slower"]["comparisons"][0]
    assert slow["b_ms"] >= compare_power.ANSWER_S * compare_power.SLOWDOWN * 1000
    assert "| 10% slower | p50 | 0 | 0 | 0 | 1 |" in (tmp_path / "compare-power.md").read_text()

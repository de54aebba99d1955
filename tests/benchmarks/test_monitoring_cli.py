"""`python -m benchmarks.monitoring`: some parts alone have files of their own, and a part that is none is refused."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.monitoring import __main__ as program


def test_some_parts_alone_do_not_replace_the_results_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {"change": "none", "share": 1.0, "runs": 1, "early_alarms": 0, "found": 0}
    monkeypatch.setattr(program.images, "measure", lambda runs: [{**found, "median_rows": None, "first_features": []}])
    assert program.main(["--only", "images", "--image-runs", "1", "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"monitoring-images.json", "monitoring-images.md"}


def test_a_part_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--only", "image", "--out", str(tmp_path)])
    assert "expected some of cost, speed, table, images" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

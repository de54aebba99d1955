"""`python -m benchmarks.monitoring`: some parts alone have files of their own, and a part that is none is refused."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.monitoring import __main__ as program
from benchmarks.monitoring import page


def test_some_parts_alone_do_not_replace_the_results_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {"change": "none", "share": 1.0, "runs": 1, "early_alarms": 0, "found": 0}
    monkeypatch.setattr(program.images, "measure", lambda runs: [{**found, "median_rows": None, "first_features": []}])
    assert program.main(["--only", "images", "--image-runs", "1", "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"monitoring-images.json", "monitoring-images.md"}


@pytest.mark.parametrize(("frame_ms", "said"), [(16.7, "held"), (50.0, "MISSED")])
def test_the_page_has_its_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame_ms: float, said: str) -> None:
    result = page.PageResult(9.0, (120.0, 100.0, 400.0), 80.0, 1440, (frame_ms,) * 20)
    monkeypatch.setattr(program.page, "why_not", lambda: None)
    monkeypatch.setattr(program.page, "measure", lambda: result)
    assert program.main(["--only", "page", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "monitoring-page.md").read_text()
    assert "median of 3 loads | 120 ms | 300 ms | held |" in text
    assert f"p95 of 20 | {frame_ms:.1f} ms | 33 ms | {said} |" in text
    monkeypatch.setattr(program.page, "why_not", lambda: "missing: no browser")
    assert program.main(["--only", "page", "--out", str(tmp_path)]) == 0
    assert "missing: no browser" in (tmp_path / "monitoring-page.md").read_text()


def test_a_part_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--only", "image", "--out", str(tmp_path)])
    assert "expected some of cost, speed, table, images, page" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

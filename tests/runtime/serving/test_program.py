"""What programs that serve choose by, where nobody says otherwise."""

from pathlib import Path

import pytest

from runtime.selection.settings import Objective
from runtime.serving.program import load_all, make_engine
from runtime.serving.settings import ModelServerSettings


@pytest.mark.parametrize("asked", [None, Objective.LATENCY])
def test_a_server_chooses_for_efficiency_and_for_what_it_is_asked(
    asked: Objective | None, calibrated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(calibrated_home))
    settings = ModelServerSettings(models=("digits",), objective=asked)
    engine = make_engine(settings)
    try:
        load_all(engine, settings)
        choice = engine.model("digits").choice
    finally:
        engine.close()
    assert choice.objective is (asked or Objective.EFFICIENCY)
    assert choice.from_cache

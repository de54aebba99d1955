"""The hybrid benchmark's programs, as processes."""

from pathlib import Path

import pytest

from benchmarks.hybrid.programs import start
from tests.programs import calibrated_home


@pytest.mark.slow
def test_agents_that_run_side_by_side_have_homes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(calibrated_home()))
    agents = []
    try:
        agents += [start(tmp_path, name, ["agent", "run", "digits"]) for name in ("one", "two")]
        for name, agent in zip(("one", "two"), agents, strict=True):
            assert agent.status()["models"][0]["name"] == "digits"
            assert (tmp_path / f"{name}-home" / "agent" / "lock").exists()
    finally:
        for agent in agents:
            agent.stop()

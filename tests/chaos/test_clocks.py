"""Clocks may jump: nothing that decides looks at the time of day."""

import ast
import time
from pathlib import Path

import pytest

from edge_agent.service import AgentService
from tests.edge_agent.test_service import FakeGateway, FakeLocal, request, who

ROOT = Path(__file__).resolve().parents[2]
# What waits, predicts or decides. The store, the log and reports may say the time of day.
ROOMS = ("edge_agent", "runtime/client", "runtime/batching")
OF_THE_DAY = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "time.localtime"}


def test_only_monotonic_clocks_are_read_where_something_is_decided() -> None:
    decides = {
        "breaker", "budget", "cascade", "counts", "course", "decision_log", "hedging", "latency", "memory", "outliers", "pace",
        "plan", "obstacles", "falling_back", "request_options", "routing", "rules", "service", "states", "upstream", "upstreams",
    }  # fmt: skip
    files = [ROOT / "edge_agent" / f"{name}.py" for name in decides]
    files += [file for room in ROOMS[1:] for file in (ROOT / room).rglob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and f"{ast.unparse(node.value)}.{node.attr}" in OF_THE_DAY:
                found.append(f"{file.name}:{node.lineno}")
    assert found == []


async def test_a_clock_that_jumps_a_day_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    service = AgentService(FakeLocal(), FakeGateway())
    real = time.time
    for jump_s in (0.0, 86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
        for _ in range(5):
            assert who(await service.infer(request()))[1] == "edge"
    assert service.counts.describe()["failed"] == {}

"""Edge or cloud: what one decision costs the agent."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from edge_agent.plan import Plan, RequestFacts
from edge_agent.routing import decide
from edge_agent.rules import Policy
from edge_agent.states import CloudState, LocalState
from runtime.wire.values import Privacy, Route


def test_decide(benchmark: BenchmarkFixture) -> None:
    """Both arms able, both of known time."""
    facts = RequestFacts(Route.AUTO, Privacy.ANY, deadline=10.0)
    local, cloud = LocalState(predicted_s=0.001), CloudState(True, True, predicted_s=0.02)
    plan = benchmark(decide, Policy.FASTEST, facts, local, cloud, 0.0)
    assert isinstance(plan, Plan)

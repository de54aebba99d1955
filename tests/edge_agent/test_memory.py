"""Whether memory is short, and what follows from that."""

from edge_agent.memory import LOOK_EVERY_S, MemoryGauge, available_bytes
from edge_agent.service import AgentService
from edge_agent.states import NO_GATEWAY
from tests.edge_agent.test_service import FakeGateway, FakeLocal, request, who

MB = 1 << 20


def test_it_looks_seldom_and_says_how_much_is_there() -> None:
    readings = [100 * MB, 10 * MB, None]
    gauge = MemoryGauge(64 * MB, lambda: readings.pop(0))
    assert gauge.pressure(0.0) == ""
    assert gauge.pressure(LOOK_EVERY_S / 2) == ""
    assert "10 MB are available, 64 MB are to stay free" in gauge.pressure(LOOK_EVERY_S)
    assert gauge.pressure(2 * LOOK_EVERY_S) == "", "unknown is not short"


def test_this_machine_has_some() -> None:
    available = available_bytes()
    assert available is None or available > MB


async def test_a_device_short_of_memory_asks_the_cloud_and_alone_does_what_it_can() -> None:
    gauge = MemoryGauge(64 * MB, lambda: MB)
    service = AgentService(FakeLocal(), FakeGateway(), memory=gauge)
    response = await service.infer(request())
    assert who(response)[:2] == (2.0, "cloud")
    assert "memory is short" in str(response.parameters["reason"])
    assert service.counts.fallbacks == {"memory_short": 1}
    alone = AgentService(FakeLocal(), FakeGateway(cloud=NO_GATEWAY), memory=gauge)
    assert who(await alone.infer(request()))[1] == "edge"

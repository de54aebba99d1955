"""The gateway that fails every second inference: behind it the retry budget is spent, and no more than that."""

from contextlib import suppress

import pytest

from benchmarks.hybrid.flaky import FlakyGateway
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from runtime.errors import PeerUnreachableError
from tests.edge_agent.test_upstream import REQUEST, Echo, serving
from tests.edge_agent.test_upstreams import PATIENT


async def test_every_second_inference_is_unavailable_and_retries_keep_to_their_budget() -> None:
    service = Echo()
    async with serving(service) as port, FlakyGateway(f"127.0.0.1:{port}") as flaky:
        subject = Gateways([Gateway(f"127.0.0.1:{flaky.port}", None, PATIENT)], retry_share=0.2)
        for _ in range(40):
            with suppress(PeerUnreachableError):
                await subject.infer(REQUEST)
        assert await subject.is_model_ready("m", ""), "only inferences fail"
        await subject.close()
    assert flaky.failed == pytest.approx(len(service.deadlines), abs=1)
    assert 0 < subject.retries <= 40 * 0.2 + 3
    assert subject.retries_held_back > 0
    assert len(service.deadlines) + flaky.failed == 40 + subject.retries

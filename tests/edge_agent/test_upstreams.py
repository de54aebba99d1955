"""Several gateways as one: who is asked, what is tried again and what not, and who is left out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

from edge_agent.breaker import BreakerSettings
from edge_agent.outliers import OutlierSettings
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    PeerFailedError,
    PeerUnreachableError,
)
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.edge_agent.test_upstream import HASTY, REQUEST, Echo, serving, until

# A breaker that stays out of the way.
PATIENT = BreakerSettings(failures_to_open=1000)


@asynccontextmanager
async def gateways(
    *services: Echo,
    retry_share: float = 1.0,
    breaker: BreakerSettings = PATIENT,
    outliers: OutlierSettings = OutlierSettings(),  # noqa: B008  (frozen)
) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(serving(service)) for service in services]
        members = [Gateway(f"127.0.0.1:{port}", None, breaker) for port in ports]
        subject = Gateways(members, retry_share, outliers)
        yield subject
        await subject.close()


async def test_a_busy_gateway_hands_over_to_the_next() -> None:
    full, good = Echo(OverloadedError("full")), Echo()
    async with gateways(full, good) as subject:
        for _ in range(4):
            await subject.infer(REQUEST)
        assert len(good.deadlines) == 4
        assert subject.retries == len(full.deadlines)


@pytest.mark.parametrize(
    "error", [InvalidInputError("shape"), ExecutionError("broke"), ModelNotFoundError("none such")]
)
async def test_what_would_fail_again_is_not_tried_again(error: EdgewardError) -> None:
    both = Echo(error), Echo(error)
    async with gateways(*both) as subject:
        with pytest.raises(EdgewardError):
            await subject.infer(REQUEST)
        assert sum(len(one.deadlines) for one in both) == 1
        assert subject.retries == 0


async def test_one_gateway_alone_is_asked_again_a_few_times() -> None:
    full = Echo(OverloadedError("full"))
    async with gateways(full) as subject:
        with pytest.raises(OverloadedError):
            await subject.infer(REQUEST)
        assert len(full.deadlines) == 3


async def test_retries_keep_to_their_share() -> None:
    full = Echo(OverloadedError("full"))
    async with gateways(full, retry_share=0.2) as subject:
        for _ in range(20):
            with pytest.raises(OverloadedError):
                await subject.infer(REQUEST)
        assert subject.retries <= 5
        assert subject.retries_held_back >= 15
        assert len(full.deadlines) == 20 + subject.retries


async def test_what_must_not_run_twice_is_tried_again_only_where_it_has_not_run() -> None:
    async with gateways(Echo(OverloadedError("full")), Echo(), retry_share=1.0) as subject:
        for _ in range(3):
            await subject.infer(REQUEST, is_idempotent=False)
    subject = Gateways([Gateway("127.0.0.1:1", None, PATIENT)], 1.0)
    with pytest.raises(PeerUnreachableError):
        await subject.infer(REQUEST, is_idempotent=False)
    assert subject.retries == 0
    await subject.close()


async def test_there_is_no_retry_when_the_time_is_up() -> None:
    silent = Echo()
    silent.is_silent = True
    async with gateways(silent, Echo()) as subject:
        subject.members[1].in_flight = 50  # so that the silent one comes first
        with pytest.raises(DeadlineExceededError):
            await subject.infer(InferenceRequest("m", REQUEST.inputs, deadline=time.monotonic() + 0.1))
        assert subject.retries == 0


@pytest.mark.slow
async def test_a_dead_gateway_is_passed_over_and_asked_again_when_it_is_back() -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(Echo()))
        async with serving(Echo()) as mortal:
            pass
        subject = Gateways(
            [Gateway(f"127.0.0.1:{mortal}", None, HASTY), Gateway(f"127.0.0.1:{port}", None, HASTY)], 1.0
        )
        watch = asyncio.create_task(subject.watch())
        for _ in range(6):
            await subject.infer(REQUEST)
        assert subject.state(time.monotonic(), "m").is_permitted
        back = Echo()
        async with serving(back, mortal):
            await until(lambda: subject.members[0].is_permitted(time.monotonic()))
            async with asyncio.timeout(20):
                while not back.deadlines:
                    await subject.infer(REQUEST)
        watch.cancel()
        await asyncio.wait({watch})
        await subject.close()


async def test_a_gateway_that_answers_with_errors_loses_its_requests_to_the_other() -> None:
    broken, good = Echo(ExecutionError("broke")), Echo()
    async with gateways(broken, good) as subject:
        failed = 0
        for _ in range(30):
            try:
                await subject.infer(REQUEST)
            except PeerFailedError:
                failed += 1
        assert failed == len(broken.deadlines) <= 3
        assert len(good.deadlines) == 30 - failed
        assert [one["left_out"] for one in await subject.describe()] == [None, None]
        assert (await subject.describe_model("m", "")).platform == "echo"
        assert await subject.is_model_ready("m", "")


class Slow(Echo):
    """Takes half a second for an answer, until it has recovered: far longer than the other one, on a busy machine too."""

    is_slow = True

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        if self.is_slow:
            await asyncio.sleep(0.5)
        return await super().infer(request)

    def recover(self) -> None:
        self.is_slow = False


class Failing(Echo):
    """Answers with errors, until it has recovered."""

    def recover(self) -> None:
        self.error = None


async def crowd(subject: Gateways, count: int = 60) -> None:
    """So many at once that the worse one is asked too."""
    await asyncio.gather(*(subject.infer(REQUEST) for _ in range(count)), return_exceptions=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "why"), [(Failing(ExecutionError("broke")), "of its answers are errors"), (Slow(), "it takes ")]
)
async def test_a_gateway_that_does_worse_is_left_out_and_comes_back_once_it_has_recovered(
    bad: Failing | Slow, why: str
) -> None:
    async with gateways(bad, Echo(), outliers=OutlierSettings(eject_s=1.0)) as subject:

        def left_out() -> str:
            return subject._outliers.reason(0, time.monotonic())

        async with asyncio.timeout(30):
            while not left_out():
                await crowd(subject)
        assert why in left_out()
        assert subject._outliers.reason(1, time.monotonic()) == ""
        before = len(bad.deadlines)
        await crowd(subject, 20)
        assert len(bad.deadlines) == before or not left_out(), "whoever is left out is not asked"
        bad.recover()
        async with asyncio.timeout(30):
            while left_out() or len(bad.deadlines) < before + 20:
                await crowd(subject)
        assert [one["left_out"] for one in await subject.describe()] == [None, None]


async def test_bytes_of_an_image_travel_as_bytes() -> None:
    service = Echo()
    async with gateways(service) as subject:
        image = np.arange(224 * 224 * 3, dtype=np.uint8).reshape(1, 224, 224, 3)
        answer = await subject.infer(InferenceRequest("m", {"x": image}))
    assert answer.outputs["x"].dtype == np.uint8
    np.testing.assert_array_equal(answer.outputs["x"], image)
    assert "edgeward_timing" not in answer.parameters

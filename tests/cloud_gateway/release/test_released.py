"""One request within a release leaves nothing behind that only a collector of cycles finds."""

import gc
from pathlib import Path

import pytest

from cloud_gateway.release.noted import Route
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, row
from tests.cloud_gateway.release.gateways import SHADOW, Gateway, Stock, gateway, plan
from tests.cloud_gateway.release.test_following import BLUE_GREEN, until


def left(one: Gateway) -> int:
    """Requests of this gateway's release that are still there: what is logged of another test's may keep those."""
    (active,) = one.traffic.active.values()
    return sum(type(known) is Route and known.active is active for known in gc.get_objects())


@pytest.mark.parametrize(("more", "version"), [(BLUE_GREEN, "2"), (SHADOW, "1")])
async def test_a_request_is_gone_once_it_is_answered_or_withdrawn(
    stock: Stock, file: Path, more: str, version: str
) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(more=more))
        gc.collect()
        gc.disable()
        try:
            assert await one.versions_told(3) == {version}
            await until(lambda: left(one) == 0)
            heard: list[InferenceResponse | BaseException | None] = []
            one.service.ask(InferenceRequest("small", row()), lambda said, error: heard.append(said or error))()
            await one.ask()  # behind it in the queue
            await until(lambda: left(one) == 0)
            assert heard == []
        finally:
            gc.enable()


async def test_a_request_that_the_candidate_failed_is_gone_once_stable_has_answered(stock: Stock, file: Path) -> None:
    async with gateway(stock, file) as one:
        await one.controller.start(plan(5, more=BLUE_GREEN))
        gc.collect()
        gc.disable()
        try:
            # One by one: of a batch that fails the log says the error, and pytest keeps what was logged.
            replies = [reply for _ in range(3) for reply in await one.ask(1, PICK_FAILS_ON_SMALL_TABLES)]
            assert {reply.parameters["release"] for reply in replies} == {"stable"}
            assert one.traffic.active["small"].evidence.counts.replaced == 0, (
                "noted, and not counted before the next tick"
            )
            await until(lambda: left(one) == 0)
        finally:
            gc.enable()

"""A release that is switched: out of callers' way, in it, and with a shadow of all of them."""

import pytest

from benchmarks.releases.switched_gateway import CANARY, PLAIN, SHADOW, Switch
from cloud_gateway.release.answering import Traffic
from cloud_gateway.release.service import ReleaseService
from tests.cloud_gateway.release.test_service import Inner, activate, request


@pytest.mark.parametrize(("signal", "mirrored_share"), [(CANARY, 0.0), (SHADOW, 1.0)])
async def test_a_switched_release_is_past_and_back(signal: int, mirrored_share: float) -> None:
    traffic, inner, switch = Traffic(pins={"digits": "1"}), Inner(), Switch()
    service = ReleaseService(inner, traffic)
    switch.note(service, traffic)
    active = activate(traffic, 1.0)
    for _ in range(2):
        switch.turn(PLAIN, None)
        assert "release" not in (await service.infer(request())).parameters
        switch.turn(signal, None)
        assert (await service.infer(request())).parameters["release"] == "candidate"
        assert active.mirrored_share == mirrored_share
    assert inner.asked == ["1", "2"] * 2

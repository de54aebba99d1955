"""What the native front hands over, call by call: one that goes wrong takes none of the others with it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protos import inference
from runtime.serving.controls import Controls
from runtime.serving.grpc.native import NativeGrpcServer
from runtime.wire.status import INTERNAL_TEXT
from tests.runtime.serving.clients import Call, infer_message
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.threaded import PATIENCE_S

ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
GOOD = infer_message(Call("echo", ROW)).SerializeToString()
CALL, CANCEL = 0, 1
DETAILS = ((), "ipv4:127.0.0.1:9", None)


class FakeFront:
    """Takes what a `NativeGrpcFront` takes; `fussy` calls are those whose end it takes in plain words alone."""

    def __init__(self, fussy: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.answered: dict[int, bytes] = {}
        self.failed: dict[int, str] = {}
        self.is_told = asyncio.Event()
        self._fussy = fussy

    def respond(self, call_id: int, payload: bytes) -> bool:
        self.answered[call_id] = payload
        self.is_told.set()
        return True

    def fail(self, call_id: int, code: int, text: str, hints: list[tuple[str, str]] | None = None) -> bool:
        if hints and call_id in self._fussy:
            raise ValueError("a hint that no header can hold")
        self.failed[call_id] = text
        return True


def server_of(tmp_path: Path, front: FakeFront) -> Any:
    server = NativeGrpcServer(FakeService(), Controls.under(tmp_path, 1 << 20, "off"))
    server._front = front  # type: ignore[assignment]
    return server


@pytest.mark.parametrize("fussy", [set(), {1}], ids=["a front that takes it", "a front that does not"])
async def test_a_call_that_fails_leaves_the_rest_of_its_burst_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fussy: set[int]
) -> None:
    front = FakeFront(fussy)
    server = server_of(tmp_path, front)
    burst = [(CALL, call_id, 0, raw, None, DETAILS) for call_id, raw in ((1, b"\xff"), (2, GOOD))]
    with caplog.at_level(logging.ERROR):
        server._on_burst(front, asyncio.get_running_loop(), burst)
        await asyncio.wait_for(front.is_told.wait(), PATIENCE_S)
    reply = inference.ModelInferResponse.FromString(front.answered[2])
    assert reply.raw_output_contents[0] == ROW["x"].tobytes()
    assert front.failed == {1: INTERNAL_TEXT} if fussy else "are not a message" in front.failed[1]
    assert bool(caplog.records) is bool(fussy)


async def test_an_event_that_makes_no_sense_leaves_the_rest_of_its_burst_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    front = FakeFront()
    server = server_of(tmp_path, front)
    burst = [(CANCEL, 7, 0, None, None, None), (CALL, 1, 0, GOOD, None, None), (CALL, 2, 0, GOOD, None, DETAILS)]
    with caplog.at_level(logging.ERROR):
        server._on_burst(front, asyncio.get_running_loop(), burst)
        await asyncio.wait_for(front.is_told.wait(), PATIENCE_S)
    assert set(front.answered) == {2}
    assert [record.getMessage() for record in caplog.records] == ["a call could not be taken from the native front"]

"""A private request never reaches the network code: nothing is encoded, nobody is connected to, also when all else fails."""

import asyncio

import pytest

import runtime.client.aio
from edge_agent.rules import Policy, Rule
from edge_agent.service import AgentService
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from runtime.errors import (
    DeadlineExceededError,
    EdgewardError,
    ExecutionError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
)
from runtime.wire.values import InferenceRequest, Privacy
from tests.edge_agent.test_service import FakeLocal, request

MISHAPS = [
    None,
    ExecutionError("broke"),
    OverloadedError("full"),
    ModelNotFoundError("gone"),
    DeadlineExceededError("late"),
]


class Recorder:
    """A listener and an encoder that only take notes."""

    def __init__(self) -> None:
        self.connections = 0
        self.encoded: list[InferenceRequest] = []

    def on_connection(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    def encode(self, asked: InferenceRequest) -> None:
        self.encoded.append(asked)
        raise AssertionError("a private request was about to be serialised")


@pytest.mark.parametrize("is_in_rule", [True, False])
async def test_local_only_stays_before_serialisation(monkeypatch: pytest.MonkeyPatch, is_in_rule: bool) -> None:
    recorder = Recorder()
    monkeypatch.setattr(runtime.client.aio, "encode_request", recorder.encode)
    listener = await asyncio.start_server(recorder.on_connection, "127.0.0.1", 0)
    gateways = Gateways([Gateway(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")])
    for policy in Policy:
        for mishap in MISHAPS:
            for is_hanging in (False, True):
                local = FakeLocal(mishap, is_hanging=is_hanging)
                rules = {"m": Rule(policy, Privacy.LOCAL_ONLY if is_in_rule else Privacy.ANY, threshold=None)}
                service = AgentService(local, gateways, default_deadline_s=0.02, rules=rules)
                for route in ("auto", "edge", "cloud"):
                    for override in ("edge_first", "cloud_only", "fastest"):
                        asked = request(
                            route=route, policy=override, **({} if is_in_rule else {"privacy": "local_only"})
                        )
                        try:
                            response = await service.infer(asked)
                        except EdgewardError:
                            continue
                        assert response.parameters["served_by"] == "edge"
                if is_in_rule:
                    await service.is_model_ready("m", "")
    assert recorder.encoded == []
    assert recorder.connections == 0
    await gateways.close()
    listener.close()
    await listener.wait_closed()


async def test_privacy_that_is_misspelt_is_refused_before_anything_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(runtime.client.aio, "encode_request", recorder.encode)
    service = AgentService(FakeLocal(), Gateways([Gateway("127.0.0.1:1")]), rules={"m": Rule(Policy.CLOUD_ONLY)})
    with pytest.raises(InvalidInputError, match="'privacy' was meant"):
        await service.infer(request(privcy="local_only"))
    assert recorder.encoded == []


async def test_the_recorder_would_have_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(runtime.client.aio, "encode_request", recorder.encode)
    gateways = Gateways([Gateway("127.0.0.1:1")])
    with pytest.raises(AssertionError, match="about to be serialised"):
        await AgentService(FakeLocal(), gateways).infer(request(route="cloud"))
    assert len(recorder.encoded) == 1
    await gateways.close()

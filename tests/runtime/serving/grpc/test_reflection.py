"""gRPC reflection: off unless asked for; on, a tool learns from it what it needs to speak, on both fronts."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from protos import health, inference, reflection
from runtime.errors import UnauthenticatedError
from runtime.serving.grpc.reflection import RPC, SERVICES
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

Request = reflection.ServerReflectionRequest


@pytest.fixture(scope="module")
def told(front: str) -> Iterator[Threaded]:
    with serving(grpc_front=front, grpc_reflection=True) as threaded:
        yield threaded


def ask(at: str, service: str, *requests: Request) -> list[reflection.ServerReflectionResponse]:
    method = reflection.METHODS[RPC]
    with grpc.insecure_channel(at) as channel:
        stub = channel.stream_stream(f"/{service}/{RPC}", method.request.SerializeToString, method.response.FromString)
        return list(stub(iter(requests), timeout=PATIENCE_S))


@pytest.mark.parametrize("service", SERVICES)
def test_a_tool_learns_to_call_what_it_is_told_of(told: Threaded, service: str) -> None:
    listed, found = ask(
        told.grpc,
        service,
        Request(list_services=""),
        Request(file_containing_symbol="inference.GRPCInferenceService"),
    )
    assert {each.name for each in listed.list_services_response.service} == {
        inference.SERVICE,
        health.SERVICE,
        reflection.SERVICE,
    }
    pool = DescriptorPool()
    for raw in found.file_descriptor_response.file_descriptor_proto:
        pool.AddSerializedFile(raw)
    live = pool.FindServiceByName("inference.GRPCInferenceService").methods_by_name["ServerLive"]
    with grpc.insecure_channel(told.grpc) as channel:
        raw = channel.unary_unary(f"/{live.containing_service.full_name}/{live.name}")(b"", timeout=PATIENCE_S)
    assert GetMessageClass(live.output_type).FromString(raw).live is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        (Request(file_by_filename="health.proto"), "health.proto"),
        (Request(file_containing_symbol="grpc.health.v1.Health.Check"), "health.proto"),
        (Request(file_containing_symbol="inference.ModelInferRequest.InferInputTensor"), "inference.proto"),
        (Request(file_containing_symbol="grpc.reflection.v1.ServerReflection"), "reflection.proto"),
        (Request(file_containing_symbol="inference.Nothing"), None),
        (Request(file_by_filename="../inference.proto"), None),
        (Request(all_extension_numbers_of_type="inference.ModelInferRequest"), None),
        (Request(), None),
    ],
    ids=lambda value: str(value).strip() if isinstance(value, Request) else "",
)
def test_files_are_told_by_name_and_symbol_and_the_stream_goes_on(
    told: Threaded, asked: Request, file: str | None
) -> None:
    first, last = ask(told.grpc, reflection.SERVICE, asked, Request(list_services=""))
    assert first.original_request == asked
    if file is None:
        assert first.error_response.error_code in (5, 12)
        assert first.error_response.error_message
    else:
        (raw,) = first.file_descriptor_response.file_descriptor_proto
        assert FileDescriptorProto.FromString(raw).name == file
    assert last.list_services_response.service


@pytest.mark.parametrize("service", SERVICES)
def test_it_is_off_unless_asked_for(server: Threaded, service: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(server.grpc, service, Request(list_services=""))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_that_waits_does_not_hold_up_the_servers_end_and_a_key_is_asked_for() -> None:
    def only_sesame(key: str | None) -> None:
        if key != "sesame":
            raise UnauthenticatedError("no key")

    with serving(only_sesame, grpc_front="grpcio", grpc_reflection=True, drain_timeout_s=PATIENCE_S) as threaded:
        with pytest.raises(grpc.RpcError) as caught:
            ask(threaded.grpc, reflection.SERVICE, Request(list_services=""))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        ended = threading.Event()
        with grpc.insecure_channel(threaded.grpc) as channel:
            method = reflection.METHODS[RPC]
            stub = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)

            def one_and_then_silence() -> Iterator[Request]:
                yield Request(list_services="")
                ended.wait(PATIENCE_S)

            waiting = stub(one_and_then_silence(), metadata=[("authorization", "Bearer sesame")], timeout=PATIENCE_S)
            next(waiting)
            threaded.do(threaded.stop.set)
            assert list(waiting) == []
            ended.set()

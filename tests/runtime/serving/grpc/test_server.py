"""gRPC beyond the shared contract: every other RPC, streams, health, keys, deadlines, hung-up clients, garbage."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest

from protos import health, inference
from runtime.errors import UnauthenticatedError
from runtime.serving.grpc.stream import MAX_AHEAD
from runtime.serving.sockets import Endpoint
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.runtime.serving.clients import Call, grpc_call, infer_message, outcome_of
from tests.runtime.serving.fake_service import FakeService
from tests.runtime.serving.raw_http2 import DATA, END_STREAM, INFER, RST_STREAM, Http2, call, frame, message, open_call
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")

SERVING = health.HealthCheckResponse.SERVING
NOT_SERVING = health.HealthCheckResponse.NOT_SERVING
UNLIMITED = [("grpc.max_receive_message_length", -1)]
ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}


@pytest.fixture(scope="module")
def server(front: str) -> Iterator[Threaded]:
    with serving(grpc_front=front) as threaded:
        yield threaded


@pytest.fixture
def channel(server: Threaded) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def refused(work: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        work()
    return caught.value.code().name, caught.value.details()


def errors_told(server: Threaded) -> dict[str, float]:
    """By class, how often inferences ended in one."""
    with urlopen(f"http://{server.http}/metrics") as reply:
        text = reply.read().decode()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    return {sample.labels["error"]: sample.value for sample in families["edgeward_errors"].samples}


def stream(channel: grpc.Channel, messages: Any) -> Any:
    method = inference.METHODS["ModelStreamInfer"]
    stub = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
    return stub(messages, timeout=PATIENCE_S)


def raw_call(channel: grpc.Channel, rpc: str, raw: bytes) -> bytes:
    return channel.unary_unary(inference.METHODS[rpc].path)(raw, timeout=PATIENCE_S)


def test_every_rpc_of_the_service_is_handled(channel: grpc.Channel) -> None:
    for rpc, method in inference.METHODS.items():
        if not method.server_streaming:
            try:
                grpc_call(channel, rpc, method.request())
            except grpc.RpcError as error:
                code = error.code()
                assert code is grpc.StatusCode.INVALID_ARGUMENT or rpc == "CudaSharedMemoryRegister"


def test_server_rpcs(channel: grpc.Channel) -> None:
    assert grpc_call(channel, "ServerLive", inference.ServerLiveRequest()).live
    assert grpc_call(channel, "ServerReady", inference.ServerReadyRequest()).ready
    metadata = grpc_call(channel, "ServerMetadata", inference.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("fake", "0.0")
    assert "binary_tensor_data" in metadata.extensions


def test_model_rpcs(channel: grpc.Channel) -> None:
    for name, is_ready in (("add", True), ("nobody", False)):
        assert grpc_call(channel, "ModelReady", inference.ModelReadyRequest(name=name)).ready is is_ready
    metadata = grpc_call(channel, "ModelMetadata", inference.ModelMetadataRequest(name="add"))
    assert [tensor.name for tensor in metadata.inputs] == ["INPUT0", "INPUT1"]
    config = grpc_call(channel, "ModelConfig", inference.ModelConfigRequest(name="add")).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (8, [16])


def test_repository_rpcs(channel: grpc.Channel, server: Threaded) -> None:
    index = grpc_call(channel, "RepositoryIndex", inference.RepositoryIndexRequest())
    assert ("broken", "UNAVAILABLE", "its file is gone") in [(m.name, m.state, m.reason) for m in index.models]
    ready = grpc_call(channel, "RepositoryIndex", inference.RepositoryIndexRequest(ready=True))
    assert {model.state for model in ready.models} == {"READY"}

    load = inference.RepositoryModelLoadRequest(model_name="add")
    load.parameters["file:1/model.onnx"].bytes_param = b"\x08"
    grpc_call(channel, "RepositoryModelLoad", load)
    assert server.service.loaded[-1] == ("add", {"file:1/model.onnx": b"\x08"})
    grpc_call(channel, "RepositoryModelUnload", inference.RepositoryModelUnloadRequest(model_name="echo"))
    assert server.service.unloaded[-1] == "echo"
    wrong = inference.RepositoryModelLoadRequest(model_name="../../etc/passwd")
    assert refused(lambda: grpc_call(channel, "RepositoryModelLoad", wrong))[0] == "INVALID_ARGUMENT"


def test_bytes_that_are_no_message_are_the_callers_mistake(channel: grpc.Channel) -> None:
    for rpc in ("ModelInfer", "ModelMetadata"):
        code, text = refused(lambda rpc=rpc: raw_call(channel, rpc, b"\xff\xff\xff\xff garbage"))
        assert code == "INVALID_ARGUMENT"
        assert f"are not a message inference.{rpc}Request" in text


def test_a_name_with_a_null_byte_is_refused(channel: grpc.Channel) -> None:
    code, text = refused(lambda: grpc_call(channel, "ModelInfer", infer_message(Call("add\0", ROW))))
    assert code == "INVALID_ARGUMENT"
    assert "'add\\x00' cannot be a model name" in text


def test_the_calls_deadline_reaches_the_service(channel: grpc.Channel) -> None:
    reply = grpc_call(channel, "ModelInfer", infer_message(Call("deadline", ROW)), timeout=PATIENCE_S)
    assert 0 < outcome_of(reply).outputs["left_s"][0] <= PATIENCE_S + 1  # gRPC rounds up
    nearer = infer_message(Call("deadline", ROW, parameters={"timeout": 10_000_000}))
    assert 0 < outcome_of(grpc_call(channel, "ModelInfer", nearer)).outputs["left_s"][0] <= 10
    reply = grpc_call(channel, "ModelInfer", infer_message(Call("deadline", ROW)), timeout=None)
    assert outcome_of(reply).outputs["left_s"][0] == -1


def test_a_call_given_up_is_withdrawn_from_the_service(channel: grpc.Channel, server: Threaded) -> None:
    method = inference.METHODS["ModelInfer"]
    stub = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
    call = stub.future(infer_message(Call("gate", ROW)))
    server.ask(server.service.begun.acquire())
    call.cancel()
    server.ask(server.service.withdrawn.acquire())


def test_a_deadline_that_passes_withdraws_the_request(channel: grpc.Channel, server: Threaded) -> None:
    grpc_call(channel, "ServerLive", inference.ServerLiveRequest())  # connected: the time is the call's alone
    code, _ = refused(lambda: grpc_call(channel, "ModelInfer", infer_message(Call("gate", ROW)), timeout=1.0))
    assert code == "DEADLINE_EXCEEDED"
    server.ask(server.service.begun.acquire())
    server.ask(server.service.withdrawn.acquire())


def test_a_message_that_its_client_gives_up_is_no_error(server: Threaded) -> None:
    good = infer_message(Call("echo", ROW)).SerializeToString()
    half, cancel = message(good)[:20], b"\x00\x00\x00\x08"
    before = errors_told(server)
    with Http2(server.grpc) as client:
        client.send(open_call(1) + frame(DATA, 0, 1, half))
        client.send(open_call(3, INFER, (b"grpc-timeout", b"50m")) + frame(DATA, 0, 3, half))
        client.send(call(5, good))
        assert client.until(DATA, 5) is not None, "those before it are waited for"
        client.send(frame(RST_STREAM, 0, 1, cancel) + open_call(7) + frame(DATA, END_STREAM, 7, half))
        assert client.until_ended(3)
        assert client.until_ended(7)
        client.send(open_call(9) + frame(DATA, 0, 9, half) + call(11, good))
        assert client.until(DATA, 11) is not None
    with grpc.insecure_channel(server.grpc) as channel:
        assert outcome_of(grpc_call(channel, "ModelInfer", infer_message(Call("echo", ROW)))).status == "OK"
    assert errors_told(server) == before


def test_an_inference_that_ends_in_an_error_of_grpcs_own_is_counted(front: str) -> None:
    class Failing(FakeService):
        async def infer(self, request: InferenceRequest) -> InferenceResponse:
            raise grpc.aio.InternalError("of a call to another server")

    with serving(make_service=Failing, grpc_front=front) as server, grpc.insecure_channel(server.grpc) as channel:
        code, _ = refused(lambda: grpc_call(channel, "ModelInfer", infer_message(Call("echo", ROW))))
        assert code in {"INTERNAL", "UNKNOWN"}
        assert errors_told(server) == {"Unforeseen": 1}


def test_a_reply_is_raw_unless_typed_contents_are_asked_for(channel: grpc.Channel) -> None:
    asked = inference.ModelInferRequest(model_name="echo")
    asked.inputs.add(name="x", datatype="INT64", shape=[1, 3]).contents.int64_contents.extend([1, 2, 3])
    for wanted, is_typed in ((None, False), (True, False), (False, True)):
        if wanted is not None:
            asked.parameters["binary_data_output"].bool_param = wanted
        (streamed,) = stream(channel, iter([asked]))
        for reply in (grpc_call(channel, "ModelInfer", asked), streamed.infer_response):
            if is_typed:
                assert list(reply.outputs[0].contents.int64_contents) == [1, 2, 3]
                assert not reply.raw_output_contents
            else:
                assert outcome_of(reply).outputs["x"].tolist() == [[1, 2, 3]], "also to a typed request"


def test_packed_requests_are_unpacked_where_the_front_can(front: str, channel: grpc.Channel) -> None:
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        ask = partial(grpc_call, channel, "ModelInfer", infer_message(Call("echo", ROW)), compression=compression)
        if front == "native" and compression is grpc.Compression.Deflate:
            code, text = refused(ask)
            assert (code, "`deflate`" in text) == ("UNIMPLEMENTED", True)
        else:
            assert outcome_of(ask()).outputs["x"].tolist() == [[1, 2, 3]]


# ------------------------------------------------------------------ streams


def test_a_stream_answers_in_order_and_goes_on_after_an_error(channel: grpc.Channel) -> None:
    calls = [
        Call("echo", ROW, id="1"),
        Call("fail", ROW, id="2", parameters={"error": "OverloadedError"}),
        Call("nobody", ROW, id="3"),
        Call("echo", ROW, id="4"),
    ]
    replies = list(stream(channel, iter([infer_message(call) for call in calls])))
    assert [reply.infer_response.id for reply in replies] == ["1", "2", "3", "4"]
    assert [bool(reply.error_message) for reply in replies] == [False, True, True, False]
    assert replies[1].error_message == "OverloadedError was asked for"
    assert outcome_of(replies[3].infer_response).outputs["x"].tolist() == [[1, 2, 3]]


def test_requests_of_a_stream_run_side_by_side_within_a_bound(server: Threaded, channel: grpc.Channel) -> None:
    calls = [Call("gate", ROW, id=str(i)) for i in range(3 * MAX_AHEAD)]
    replies = stream(channel, iter([infer_message(call) for call in calls]))
    for _ in range(MAX_AHEAD):
        server.ask(server.service.begun.acquire())
    assert server.service.begun.locked(), "no more than MAX_AHEAD have begun"
    server.do(server.service.gate.set)
    try:
        assert [reply.infer_response.id for reply in replies] == [call.id for call in calls]
    finally:
        server.do(server.service.gate.clear)
    for _ in range(2 * MAX_AHEAD):
        server.ask(server.service.begun.acquire())


def test_a_stream_given_up_withdraws_its_requests(server: Threaded, channel: grpc.Channel) -> None:
    replies = stream(channel, iter([infer_message(Call("gate", ROW)) for _ in range(3)]))
    for _ in range(3):
        server.ask(server.service.begun.acquire())
    replies.cancel()
    for _ in range(3):
        server.ask(server.service.withdrawn.acquire())


def test_garbage_in_a_stream_is_one_failed_request(channel: grpc.Channel) -> None:
    method = inference.METHODS["ModelStreamInfer"]
    good = infer_message(Call("echo", ROW)).SerializeToString()
    raw = channel.stream_stream(method.path)(iter([b"\xff\xff", good]), timeout=PATIENCE_S)
    first, second = (method.response.FromString(reply) for reply in raw)
    assert "are not a message" in first.error_message
    assert not second.error_message


# ------------------------------------------------------------------- health


def health_call(channel: grpc.Channel, rpc: str, message: Any) -> Any:
    method = health.METHODS[rpc]
    return channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)(message)


def test_health_check_and_list(channel: grpc.Channel) -> None:
    for service in ("", inference.SERVICE):
        assert health_call(channel, "Check", health.HealthCheckRequest(service=service)).status == SERVING
    listed = health_call(channel, "List", health.HealthListRequest()).statuses
    assert {name: state.status for name, state in listed.items()} == {
        "": SERVING,
        inference.SERVICE: SERVING,
    }
    code, _ = refused(lambda: health_call(channel, "Check", health.HealthCheckRequest(service="nobody")))
    assert code == "NOT_FOUND"


def test_health_watch_tells_every_change_and_ends_with_the_server(front: str) -> None:
    with serving(grpc_front=front) as server, grpc.insecure_channel(server.grpc) as channel:
        method = health.METHODS["Watch"]
        watch = channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
        states = watch(health.HealthCheckRequest(), timeout=PATIENCE_S)
        assert next(states).status == SERVING
        server.do(lambda: setattr(server.service, "ready", False))
        assert next(states).status == NOT_SERVING
        server.do(lambda: setattr(server.service, "ready", True))
        assert next(states).status == SERVING
        server.do(server.stop.set)
        assert next(states).status == NOT_SERVING
        assert list(states) == []


# --------------------------------------------------------------------- keys


def only_sesame(value: str | None) -> None:
    if value != "sesame":
        raise UnauthenticatedError("the API key is missing or wrong; send 'authorization: Bearer <key>'")


def test_a_key_is_asked_for_everything_but_health(front: str) -> None:
    with serving(authorize=only_sesame, grpc_front=front) as server, grpc.insecure_channel(server.grpc) as channel:
        message = infer_message(Call("echo", ROW))
        assert refused(lambda: grpc_call(channel, "ModelInfer", message))[0] == "UNAUTHENTICATED"
        for value in ("Bearer open", "sesame", "Basic sesame"):
            metadata = (("authorization", value),)
            code, _ = refused(lambda: grpc_call(channel, "ModelInfer", message, metadata=metadata))  # noqa: B023
            assert code == "UNAUTHENTICATED"
        assert refused(lambda: grpc_call(channel, "ServerMetadata", inference.ServerMetadataRequest()))[0] == (
            "UNAUTHENTICATED"
        )
        assert refused(lambda: list(stream(channel, iter([message]))))[0] == "UNAUTHENTICATED"
        good = (("authorization", "Bearer sesame"),)
        assert outcome_of(grpc_call(channel, "ModelInfer", message, metadata=good)).status == "OK"
        assert grpc_call(channel, "ServerLive", inference.ServerLiveRequest()).live
        assert health_call(channel, "Check", health.HealthCheckRequest()).status == SERVING


# ------------------------------------------------------------------ garbage


def hello_of_tls() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


GARBAGE = {
    "random": np.random.default_rng(7).bytes(5000),
    "tls": hello_of_tls(),
    "http1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "preface then noise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_port_disturbs_nobody(server: Threaded, channel: grpc.Channel, garbage: bytes) -> None:
    at = server.at.grpc
    with socket.create_connection((at.host, at.port), timeout=PATIENCE_S) as noisy:
        noisy.sendall(garbage)
        with suppress(OSError):  # the server may have hung up already
            noisy.shutdown(socket.SHUT_WR)  # half-closed: it may still answer
        assert outcome_of(grpc_call(channel, "ModelInfer", infer_message(Call("echo", ROW)))).status == "OK"
    assert outcome_of(grpc_call(channel, "ModelInfer", infer_message(Call("echo", ROW)))).status == "OK"


# -------------------------------------------------------------------- drain


def test_a_drain_answers_what_was_accepted_on_calls_and_streams(front: str) -> None:
    with serving(grpc_front=front) as server, grpc.insecure_channel(server.grpc) as channel:
        method = inference.METHODS["ModelInfer"]
        stub = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        calls = [stub.future(infer_message(Call("gate", ROW)), timeout=PATIENCE_S) for _ in range(4)]
        is_over = threading.Event()

        def messages() -> Iterator[Any]:
            yield infer_message(Call("gate", ROW, id="s"))
            is_over.wait(PATIENCE_S)  # the stream stays open on the client's side

        replies = stream(channel, messages())
        for _ in range(5):
            server.ask(server.service.begun.acquire())
        server.do(server.stop.set)
        until_refused(server.at.http)  # both transports begin to drain at once
        with grpc.insecure_channel(server.grpc) as fresh:
            assert refused(lambda: grpc_call(fresh, "ModelInfer", infer_message(Call("echo", ROW))))[0] == "UNAVAILABLE"
        server.do(server.service.gate.set)
        assert [outcome_of(call.result(PATIENCE_S)).status for call in calls] == ["OK"] * 4
        assert next(replies).infer_response.id == "s"
        code, text = refused(lambda: next(replies))
        is_over.set()
        assert code == "UNAVAILABLE"
        assert "shutting down" in text


def test_large_answers_on_their_way_out_outlive_the_server(front: str) -> None:
    tensor = {"x": np.random.default_rng(1).random((1, 2_000_000), dtype=np.float32)}
    with serving(grpc_front=front) as server, grpc.insecure_channel(server.grpc, UNLIMITED) as channel:
        method = inference.METHODS["ModelInfer"]
        stub = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        calls = [stub.future(infer_message(Call("gate", tensor)), timeout=PATIENCE_S) for _ in range(8)]
        for _ in calls:
            server.ask(server.service.begun.acquire())
        server.do(server.service.gate.set)
        server.do(server.stop.set)
        assert [outcome_of(call.result(PATIENCE_S)).status for call in calls] == ["OK"] * len(calls)


def until_refused(at: Endpoint) -> None:
    """Until the server takes no more connections there, which is when its drain has begun."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            socket.create_connection((at.host, at.port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError("the server still takes connections")

"""Whatever messages come on a stream, each has one reply, in order, and the stream goes on; on both gRPC fronts."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import inference
from runtime.serving.grpc.stream import FINAL_RESPONSE, MAX_AHEAD
from tests.runtime.serving.clients import Call, GrpcClient, infer_message, unpack
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

ROW = {"x": np.array([[1, 2, 3]], dtype=np.int64)}
PATH = inference.METHODS["ModelStreamInfer"].path
# Statuses by which a stream, or a call, may end that was not as it should be.
CLEAR = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}


@pytest.fixture(scope="module")
def streams(front: str) -> Iterator[Threaded]:
    with serving(grpc_front=front, max_message_bytes=1 << 16) as threaded:
        yield threaded


def numbered(at: int, model: str = "echo") -> bytes:
    row = {"x": ROW["x"] + at}
    return infer_message(Call(model, row, id=f"id {at}")).SerializeToString()


def open_stream(channel: grpc.Channel, sent: Iterator[bytes]) -> grpc.CallIterator[bytes]:
    return channel.stream_stream(PATH)(sent, timeout=PATIENCE_S)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]], int]:
    """How a message is changed: not at all, bytes overwritten, cut short, or replaced."""
    kind = draw(st.sampled_from(["good", "edited", "cut", "any"]))
    edits = draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=5))
    return kind, edits, draw(st.integers(0, 100))


@settings(max_examples=100, deadline=None)
@given(plan=st.lists(mutations(), min_size=1, max_size=3 * MAX_AHEAD), noise=st.binary(max_size=60))
def test_every_message_has_one_reply_in_its_place(
    streams: Threaded, plan: list[tuple[str, list[tuple[int, int]], int]], noise: bytes
) -> None:
    sent = []
    for at, (kind, edits, cut) in enumerate(plan):
        raw = bytearray(numbered(at))
        if kind == "edited":
            for where, value in edits:
                raw[where % len(raw)] = value
        sent.append({"cut": bytes(raw[:cut]), "any": noise}.get(kind, bytes(raw)))
    with grpc.insecure_channel(streams.grpc) as channel:
        replies = [inference.ModelStreamInferResponse.FromString(raw) for raw in open_stream(channel, iter(sent))]
    assert len(replies) == len(sent)
    for at, ((kind, _, _), reply) in enumerate(zip(plan, replies, strict=True)):
        told = reply.infer_response
        assert told.parameters[FINAL_RESPONSE].bool_param is True
        if kind == "good":
            assert (reply.error_message, told.id) == ("", f"id {at}")
            np.testing.assert_array_equal(unpack("INT64", (1, 3), told.raw_output_contents[0]), ROW["x"] + at)
        elif reply.error_message:
            assert not told.raw_output_contents
            assert reply.error_message.isprintable()


@settings(max_examples=60, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6), cut=st.integers(0, 100))
def test_any_bytes_in_a_call(streams: Threaded, edits: list[tuple[int, int]], cut: int) -> None:
    raw = bytearray(numbered(1))
    for where, value in edits:
        raw[where % len(raw)] = value
    sent = bytes(raw[: len(raw) - cut % len(raw)])
    with grpc.insecure_channel(streams.grpc) as channel:
        call = channel.unary_unary(inference.METHODS["ModelInfer"].path).future(sent, timeout=PATIENCE_S)
        assert call.code() in {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, *CLEAR}, call.details()


def test_a_message_beyond_the_limit_ends_the_stream_with_a_clear_status(streams: Threaded) -> None:
    with grpc.insecure_channel(streams.grpc) as channel:
        replies = open_stream(channel, iter([numbered(0), bytes(1 << 17), numbered(2)]))
        with pytest.raises(grpc.RpcError) as caught:
            list(replies)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in caught.value.details()
    check(streams)


def test_streams_that_stall_keep_nobody_waiting(streams: Threaded) -> None:
    go_on = threading.Event()

    def one_and_then_silence(at: int) -> Iterator[bytes]:
        yield numbered(at)
        go_on.wait(PATIENCE_S)

    with grpc.insecure_channel(streams.grpc) as channel:
        stalled = [open_stream(channel, one_and_then_silence(at)) for at in range(40)]
        for at, stream in enumerate(stalled):
            reply = inference.ModelStreamInferResponse.FromString(next(stream))
            assert reply.infer_response.id == f"id {at}"
        check(streams)
        go_on.set()
        assert [list(stream) for stream in stalled] == [[]] * 40, "the client's half is closed, and so is ours"


def test_a_client_that_reads_nothing_is_read_no_further_than_it_may(streams: Threaded) -> None:
    """Requests that nobody takes the answers of: the stream is read `MAX_AHEAD` ahead, and the rest waits with the client."""
    with grpc.insecure_channel(streams.grpc) as channel:
        before = streams.service.answered
        big = infer_message(Call("echo", {"x": np.zeros((1, 7000))})).SerializeToString()
        stream = open_stream(channel, (big for _ in range(2000)))
        next(stream)
        counts: list[int] = []
        while len(counts) < 10 or len(set(counts[-10:])) > 1:  # until the server has come to a stop with it
            check(streams)
            counts.append(streams.service.answered - before - len(counts) - 1)
            assert len(counts) < 1000
        # What fills the windows of HTTP/2 with replies of 56 KB, and what is under way; 2,000 were on offer.
        assert 0 < counts[-1] < 500, counts
        stream.cancel()
        print(f"{counts[-1]} of 2,000 were answered")
    check(streams)


def check(streams: Threaded) -> None:
    client = GrpcClient(streams.grpc)
    assert client.send(Call("echo", ROW)).status == "OK"
    client.close()

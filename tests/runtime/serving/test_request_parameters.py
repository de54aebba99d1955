"""Triton's request parameters on a real model, over every transport and Triton's own clients."""

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from protos import inference
from tests.runtime.serving.clients import Call, Client, GrpcClient, HttpClient, infer_message
from tests.runtime.serving.real import FIRST, INPUTS, SECOND
from tests.runtime.serving.threaded import PATIENCE_S, Threaded


@pytest.fixture(params=["grpc", "rest-binary", "rest-json"])
def client(request: pytest.FixtureRequest, real: Threaded) -> Iterator[Client]:
    made: Any = (
        GrpcClient(real.grpc)
        if request.param == "grpc"
        else HttpClient(real.http, binary=request.param == "rest-binary")
    )
    yield made
    made.close()


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": 7, "sequence_start": True, "sequence_end": False},
        {"sequence_id": "seven", "sequence_start": False, "sequence_end": True},
        {"priority": 0},
        {"priority": 3},
        {"timeout": 0},
        {"timeout": 10_000_000},
        {"triton_enable_empty_final_response": True},
        {"anything": "else", "of": 1.5},
    ],
    ids=str,
)
def test_accepted(client: Client, parameters: dict[str, Any]) -> None:
    outcome = client.send(Call("simple", INPUTS, id="r-7", parameters=parameters))
    assert (outcome.status, outcome.id) == ("OK", "r-7"), outcome.text
    assert np.array_equal(outcome.outputs["OUTPUT0"], FIRST + SECOND)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sequence_id": -1}, "'sequence_id' is -1"),
        ({"sequence_id": True}, "'sequence_id' is True"),
        ({"sequence_start": 1}, "'sequence_start' is 1; expected true or false"),
        ({"sequence_end": "yes"}, "'sequence_end' is 'yes'"),
        ({"priority": -1}, "'priority' is -1"),
        ({"priority": "high"}, "'priority' is 'high'"),
        ({"timeout": -1}, "'timeout' is -1"),
        ({"timeout": "soon"}, "'timeout' is 'soon'"),
        ({"triton_enable_empty_final_response": 1}, "expected true or false"),
        ({"binary_data_output": "no"}, "'binary_data_output'"),
        ({"sequence_idd": 7}, "'sequence_id' was meant"),
        ({"idempotencykey": "k"}, "'idempotency_key' was meant"),
        ({"triton_mine": 1}, "names that begin with 'triton_' are the protocol's own"),
    ],
    ids=str,
)
def test_refused(client: Client, parameters: dict[str, Any], words: str) -> None:
    outcome = client.send(Call("simple", INPUTS, parameters=parameters))
    assert outcome.status == (400 if client.is_http else "INVALID_ARGUMENT")
    assert words in outcome.text


def test_a_timeout_that_cannot_be_met_is_the_deadline(client: Client) -> None:
    outcome = client.send(Call("simple", INPUTS, parameters={"timeout": 1}))
    assert outcome.status in ((503, 504) if client.is_http else ("UNAVAILABLE", "DEADLINE_EXCEEDED"))


def test_a_reply_is_binary_where_that_is_asked(real: Threaded) -> None:
    import json

    rest = HttpClient(real.http, binary=False)
    for every, one, wanted in ((True, None, 2), (True, False, 1), (False, True, 1), (None, None, 0)):
        body, headers = rest.encode(Call("simple", INPUTS))
        document = json.loads(body)
        document["parameters"] = {} if every is None else {"binary_data_output": every}
        own = {} if one is None else {"binary_data": one}
        document["outputs"] = [{"name": "OUTPUT0", "parameters": own}, {"name": "OUTPUT1"}]
        _, reply_headers, data = rest.request("POST", "/v2/models/simple/infer", json.dumps(document).encode(), headers)
        told = json.loads(data[: int(reply_headers.get("Inference-Header-Content-Length", len(data)))])
        assert sum("binary_data_size" in output.get("parameters", {}) for output in told["outputs"]) == wanted
        assert np.array_equal(rest.decode(reply_headers, data).outputs["OUTPUT0"], FIRST + SECOND)
    rest.close()


def test_a_stream_says_which_reply_is_the_last(real: Threaded) -> None:
    method = inference.METHODS["ModelStreamInfer"]
    asked = [Call("simple", INPUTS, id="a"), Call("nobody", INPUTS, id="b"), Call("simple", INPUTS, id="c")]
    asked[2].parameters["triton_enable_empty_final_response"] = True
    with grpc.insecure_channel(real.grpc) as channel:
        stub = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
        replies = list(stub(iter(map(infer_message, asked)), timeout=PATIENCE_S))
    assert [reply.infer_response.id for reply in replies] == ["a", "b", "c"], "one reply each, none of them empty"
    assert all(reply.infer_response.parameters["triton_final_response"].bool_param for reply in replies)
    assert [bool(reply.error_message) for reply in replies] == [False, True, False]


def test_tritons_clients_send_sequences_and_priorities(real: Threaded) -> None:
    triton_grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc,http] is not installed")
    triton_http = pytest.importorskip("tritonclient.http", reason="tritonclient[grpc,http] is not installed")
    for module, at in ((triton_grpc, real.grpc), (triton_http, real.http)):
        inputs = [module.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in (0, 1)]
        for tensor, value in zip(inputs, (FIRST, SECOND), strict=True):
            tensor.set_data_from_numpy(value)
        with module.InferenceServerClient(at) as client:
            options = {"sequence_id": 5, "sequence_start": True, "priority": 2, "timeout": 5_000_000}
            result = client.infer("simple", inputs, request_id="x", **options)
            assert np.array_equal(result.as_numpy("OUTPUT1"), FIRST - SECOND)
            best = client.infer("simple", inputs, outputs=[module.InferRequestedOutput("OUTPUT0", class_count=3)])
            assert best.as_numpy("OUTPUT0")[0, 0].split(b":")[1] == b"15"
    with triton_grpc.InferenceServerClient(real.grpc) as client:
        inputs = [triton_grpc.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in (0, 1)]
        for tensor, value in zip(inputs, (FIRST, SECOND), strict=True):
            tensor.set_data_from_numpy(value)
        replies: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: replies.put((result, error)))
        client.async_stream_infer("simple", inputs, request_id="s", enable_empty_final_response=True, sequence_id=1)
        result, error = replies.get(timeout=PATIENCE_S)
        client.stop_stream()
        assert error is None
        assert result.get_response().parameters["triton_final_response"].bool_param
        assert replies.empty()

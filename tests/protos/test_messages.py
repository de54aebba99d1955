"""Our messages beside others' of the same name, their shape in Python, and their method table in gRPC."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from protos import health, inference

ROOT = Path(__file__).parents[2]
HAS_TRITONCLIENT = importlib.util.find_spec("tritonclient") is not None


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(not HAS_TRITONCLIENT, reason="tritonclient[grpc] registers the names ours must not clash with")
@pytest.mark.parametrize(
    "imports",
    [
        "from protos import inference, health; import tritonclient.grpc",
        "import tritonclient.grpc; from protos import inference, health",
    ],
)
def test_lives_beside_tritonclient_in_either_import_order(imports: str) -> None:
    result = python(
        f"{imports}\n"
        "from tritonclient.grpc import service_pb2\n"
        "theirs = service_pb2.ModelInferRequest(model_name='m')\n"
        "ours = inference.ModelInferRequest.FromString(theirs.SerializeToString())\n"
        "assert type(ours) is not type(theirs)\n"
        "print(ours.model_name)\n"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "m\n", "")


def test_stays_out_of_protobufs_default_pool() -> None:
    ours = inference.ModelInferRequest.DESCRIPTOR
    assert ours.file.pool is not descriptor_pool.Default()
    result = python(
        "from google.protobuf import descriptor_pool\n"
        "from protos import inference, health\n"
        "for name in ('inference.ModelInferRequest', 'grpc.health.v1.HealthCheckRequest'):\n"
        "    try: descriptor_pool.Default().FindMessageTypeByName(name)\n"
        "    except KeyError: print('absent')\n"
    )
    assert (result.returncode, result.stdout) == (0, "absent\nabsent\n"), result.stderr


def test_works_on_protobuf_without_its_c_part() -> None:
    result = python(
        "from google.protobuf.internal import api_implementation\n"
        "from protos import inference, health\n"
        "tensor = inference.ModelInferRequest.InferInputTensor(name='x', shape=[-1, 3])\n"
        "request = inference.ModelInferRequest(inputs=[tensor])\n"
        "assert inference.ModelInferRequest.FromString(request.SerializeToString()) == request\n"
        "assert health.HealthCheckResponse.ServingStatus.SERVING == 1\n"
        "print(api_implementation.Type())\n",
        PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python",
    )
    assert (result.returncode, result.stdout) == (0, "python\n"), result.stderr


def test_nested_messages_and_enums_are_where_generated_code_has_them() -> None:
    tensor = inference.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[-1, 3])
    assert inference.ModelInferRequest(inputs=[tensor]).inputs[0] == tensor
    assert inference.DataType.Name(11) == "TYPE_FP32"
    assert inference.DataType.Value("TYPE_FP32") == inference.DataType.TYPE_FP32 == inference.TYPE_FP32 == 11
    assert inference.ModelInstanceGroup.Kind.KIND_CPU == inference.ModelInstanceGroup.KIND_CPU == 2
    assert inference.ModelInput(data_type="TYPE_INT64").data_type == inference.TYPE_INT64


def test_every_method_is_in_its_services_table() -> None:
    assert len(inference.METHODS) == 20
    infer = inference.METHODS["ModelInfer"]
    assert infer.path == f"/{inference.SERVICE}/ModelInfer" == "/inference.GRPCInferenceService/ModelInfer"
    assert (infer.request, infer.response) == (inference.ModelInferRequest, inference.ModelInferResponse)
    assert (infer.client_streaming, infer.server_streaming) == (False, False)
    assert set(health.METHODS) == {"Check", "List", "Watch"}


@pytest.fixture
def port() -> Iterator[int]:
    """A gRPC server, built from the method tables alone, that is live and serves nothing else."""

    def live(request: Message, context: grpc.ServicerContext) -> Message:
        return inference.ServerLiveResponse(live=True)

    def watch(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        yield health.HealthCheckResponse(status=health.HealthCheckResponse.NOT_SERVING)
        yield health.HealthCheckResponse(status=health.HealthCheckResponse.SERVING)

    server_live, watch_method = inference.METHODS["ServerLive"], health.METHODS["Watch"]
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    for service, name, handler in [
        (
            inference.SERVICE,
            server_live.name,
            grpc.unary_unary_rpc_method_handler(
                live, server_live.request.FromString, server_live.response.SerializeToString
            ),
        ),
        (
            health.SERVICE,
            watch_method.name,
            grpc.unary_stream_rpc_method_handler(
                watch, watch_method.request.FromString, watch_method.response.SerializeToString
            ),
        ),
    ]:
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: handler})])
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield bound
    server.stop(grace=None).wait()


def test_a_method_table_is_enough_for_a_grpc_server_and_client(port: int) -> None:
    live, watch = inference.METHODS["ServerLive"], health.METHODS["Watch"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(live.path, live.request.SerializeToString, live.response.FromString)
        assert call(live.request(), timeout=10) == inference.ServerLiveResponse(live=True)
        follow = channel.unary_stream(watch.path, watch.request.SerializeToString, watch.response.FromString)
        replies = list(follow(watch.request(), timeout=10))
    assert replies == [health.HealthCheckResponse(status=status) for status in ("NOT_SERVING", "SERVING")]


def test_tritonclient_calls_such_a_server(port: int) -> None:
    triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is the caller here")
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live() is True

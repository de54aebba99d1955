"""Asks a real server every RPC and every route, and writes down what it answers: CONFORMANCE.md.

python -m tests.runtime.serving.conformance     # writes the file anew
"""

import base64
import json
import tempfile
import uuid
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from protos import health, inference
from runtime.serving.rest.openapi import Operation, operations
from tests.runtime.serving.bad_input import BODIES, JSON_REQUESTS, MESSAGES
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, grpc_call, infer_message
from tests.runtime.serving.fake_cuda import fake_cuda
from tests.runtime.serving.fronts import FRONTS
from tests.runtime.serving.real import INPUTS, serving_models
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving

FILE = Path(__file__).resolve().parents[3] / "CONFORMANCE.md"
REGION, CUDA_REGION = "conformance", "conformance on a device"

HEAD = """# Conformance

Every RPC of Triton's `inference.GRPCInferenceService` and of `grpc.health.v1.Health`, and every route of REST, asked of a running
server with a good request. CUDA shared memory was asked with a stand-in for the driver; where CUDA is not, a region is refused as
UNIMPLEMENTED (501) with the reason: no cuda-bindings, no driver, or no GPU.
gRPC reflection (v1 and v1alpha) is UNIMPLEMENTED unless `--grpc-reflection` turns it on.
Written by `python -m tests.runtime.serving.conformance`; a test fails when it is out of date.
Other people's clients: benchmarks/results/example-clients.md.
"""


def table(root: Path) -> str:
    """The file's text, from a server that is started for it below `root`."""
    memory = shared_memory.SharedMemory(f"edgeward-test-{uuid.uuid4().hex}", create=True, size=64)
    try:
        with fake_cuda() as cuda, serving_models(root) as server:
            handle = cuda.export(64).handle
            rpcs = [_row(service, rpc, told) for service, rpc, told in _ask_grpc(server, memory.name, handle)]
            routes = [_row(method, path, told) for method, path, told in _ask_rest(server, memory.name, handle)]
            bad = [_row(protocol, wrong, told, mark="") for protocol, wrong, told in _ask_badly(server)]
    finally:
        memory.close()
        memory.unlink()
    packed = [_row(front, packing, told) for front, packing, told in _ask_packed()]
    return "\n".join(
        [
            HEAD,
            "## gRPC\n",
            "| service | RPC | answer |\n|---|---|---|",
            *rpcs,
            "\n## REST\n",
            "| method | route | answer |\n|---|---|---|",
            *routes,
            "\n## Packed requests over gRPC\n",
            "| front | packing | answer |\n|---|---|---|",
            *packed,
            "\n## Bad input\n",
            "One request each, to a server that goes on; the cases are in tests/runtime/serving/bad_input.py.\n",
            "| protocol | what is wrong | answer |\n|---|---|---|",
            *bad,
            "",
        ]
    )


def _row(first: str, second: str, told: str, mark: str = "`") -> str:
    return f"| {first} | {mark}{second}{mark} | {told} |"


def _ask_grpc(server: Threaded, key: str, handle: bytes) -> Iterator[tuple[str, str, str]]:
    asked = _grpc_requests(key, handle)
    with grpc.insecure_channel(server.grpc) as channel:
        for rpc, method in inference.METHODS.items():
            yield "inference", rpc, _grpc_answer(channel, method, asked[rpc], is_stream=method.server_streaming)
        for rpc, method in health.METHODS.items():
            request = health.HealthListRequest() if rpc == "List" else health.HealthCheckRequest()
            yield "health", rpc, _grpc_answer(channel, method, request, is_stream=False, is_watch=rpc == "Watch")


def _grpc_answer(channel: grpc.Channel, method: Any, message: Any, *, is_stream: bool, is_watch: bool = False) -> str:
    codecs = (method.path, method.request.SerializeToString, method.response.FromString)
    try:
        if is_watch:
            call = channel.unary_stream(*codecs)(message, timeout=PATIENCE_S)
            next(call)
            call.cancel()
        elif is_stream:
            (reply,) = channel.stream_stream(*codecs)(iter([message]), timeout=PATIENCE_S)
            assert not reply.error_message
        else:
            channel.unary_unary(*codecs)(message, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "works"


def _grpc_requests(key: str, handle: bytes) -> dict[str, Any]:
    settings = inference.TraceSettingRequest(model_name="simple")
    settings.settings["trace_rate"].value.append("500")
    logs = inference.LogSettingsRequest()
    logs.settings["log_verbose_level"].uint32_param = 0
    infer = infer_message(Call("simple", INPUTS))
    return {
        "ServerLive": inference.ServerLiveRequest(),
        "ServerReady": inference.ServerReadyRequest(),
        "ModelReady": inference.ModelReadyRequest(name="simple"),
        "ServerMetadata": inference.ServerMetadataRequest(),
        "ModelMetadata": inference.ModelMetadataRequest(name="simple"),
        "ModelInfer": infer,
        "ModelStreamInfer": infer,
        "ModelConfig": inference.ModelConfigRequest(name="simple"),
        "ModelStatistics": inference.ModelStatisticsRequest(name="simple"),
        "RepositoryIndex": inference.RepositoryIndexRequest(),
        "RepositoryModelLoad": inference.RepositoryModelLoadRequest(model_name="spare"),
        "RepositoryModelUnload": inference.RepositoryModelUnloadRequest(model_name="spare"),
        "SystemSharedMemoryStatus": inference.SystemSharedMemoryStatusRequest(),
        "SystemSharedMemoryRegister": inference.SystemSharedMemoryRegisterRequest(name=REGION, key=key, byte_size=64),
        "SystemSharedMemoryUnregister": inference.SystemSharedMemoryUnregisterRequest(name=REGION),
        "CudaSharedMemoryStatus": inference.CudaSharedMemoryStatusRequest(),
        "CudaSharedMemoryRegister": inference.CudaSharedMemoryRegisterRequest(
            name=CUDA_REGION, raw_handle=handle, byte_size=64
        ),
        "CudaSharedMemoryUnregister": inference.CudaSharedMemoryUnregisterRequest(),
        "TraceSetting": settings,
        "LogSettings": logs,
    }


def _ask_rest(server: Threaded, key: str, handle: bytes) -> Iterator[tuple[str, str, str]]:
    client = HttpClient(server.http, binary=False)
    bodies: dict[str | None, Any] = {
        "InferRequest": json.loads(client.encode(Call("simple", INPUTS))[0]),
        "IndexRequest": {"ready": True},
        "LoadRequest": {"parameters": {"config": "{}"}},
        "UnloadRequest": {"parameters": {"unload_dependents": False}},
        "RegisterSystemRequest": {"key": key, "byte_size": 64},
        "RegisterCudaRequest": {
            "raw_handle": {"b64": base64.encodebytes(handle).decode()},
            "device_id": 0,
            "byte_size": 64,
        },
        "TraceRequest": {"trace_rate": "500"},
        "LogRequest": {"log_verbose_level": 0},
        None: None,
    }
    # What a region's status and end need comes first, and the table keeps the order of the document.
    answers = {}
    for operation in sorted(operations(), key=lambda one: not one.path.endswith("/register")):
        model = "spare" if operation.path.startswith("/v2/repository") else "simple"
        path = operation.path.format(model=model, version=1, name=_region_of(operation))
        if path.endswith("unregister"):
            continue
        answers[operation] = _rest_answer(client, operation.method, path, bodies[operation.body])
    for operation in operations():
        if operation not in answers:
            path = operation.path.format(name=_region_of(operation))
            answers[operation] = _rest_answer(client, operation.method, path, None)
        yield operation.method, operation.path, answers[operation]
    client.close()


def _ask_packed() -> Iterator[tuple[str, str, str]]:
    call = infer_message(Call("echo", INPUTS))
    for front in FRONTS:
        with serving(grpc_front=front) as server, grpc.insecure_channel(server.grpc) as channel:
            for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
                told = "works"
                try:
                    grpc_call(channel, "ModelInfer", call, compression=packing)
                except grpc.RpcError as error:
                    told = f"{error.code().name}: {error.details()}"
                yield front, {0: "identity", 1: "deflate", 2: "gzip"}[int(packing)], told


def _ask_badly(server: Threaded) -> Iterator[tuple[str, str, str]]:
    """Codes alone: some texts are those of Python's parsers, and differ between its versions."""
    rest, rpc = HttpClient(server.http, binary=False), GrpcClient(server.grpc)
    bodies = {name: json.dumps(body).encode() for name, (body, _, _) in JSON_REQUESTS.items()} | BODIES
    for name, body in bodies.items():
        status, _, _ = rest.request("POST", "/v2/models/simple/infer", body)
        yield "REST", name, str(status)
    for name, (message, _) in MESSAGES.items():
        told = "works"
        try:
            grpc_call(rpc.channel, "ModelInfer", message)
        except grpc.RpcError as error:
            told = error.code().name
        yield "gRPC", name, told
    for client in (rest, rpc):
        assert client.send(Call("simple", INPUTS)).status == "OK", "the server goes on"
        client.close()


def _region_of(operation: Operation) -> str:
    return quote(CUDA_REGION if "cuda" in operation.path else REGION)


def _rest_answer(client: HttpClient, method: str, path: str, body: Any) -> str:
    status, _, data = client.request(method, path, b"" if body is None else json.dumps(body).encode())
    return "works" if status == 200 else f"{status}: {json.loads(data)['error']}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(table(Path(folder)), encoding="utf-8")
    print(f"wrote {FILE}")

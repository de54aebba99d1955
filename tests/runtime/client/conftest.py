"""A small server on a real socket for each protocol, built from the method table and the codecs alone.

Model "double" answers twice its one input; other names choose a way to fail.
"""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from protos import inference
from runtime.errors import EdgewardError, ExecutionError, InvalidInputError, ModelNotFoundError, OverloadedError
from runtime.tensors import TensorSpec
from runtime.wire import grpc_codec, grpc_descriptions, model_config, rest_codec, rest_descriptions
from runtime.wire.rest_body import HEADER_LENGTH, Body
from runtime.wire.status import hints_of, status_of, text_of
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    ModelState,
    ServerDescription,
)


class Answers:
    """What both servers say; keeps what they were asked."""

    def __init__(self) -> None:
        self.requests: list[InferenceRequest] = []
        self.describes = 0
        self.keys: list[str | None] = []
        self.loads: list[tuple[str, dict[str, object]]] = []
        self.input_name = "x"
        self.not_ready: EdgewardError = OverloadedError("starting")
        self.arrived = threading.Event()
        self.release = threading.Event()

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.requests.append(request)
        match request.model:
            case "slow":
                self.arrived.set()
                self.release.wait(30)
            case "full":
                raise OverloadedError("the queue is full", retry_after_s=3)
            case "broken":
                raise ExecutionError("the model failed")
            case "bug":
                raise ZeroDivisionError("secret")
        self.describe(request.model)
        value = request.inputs.get(self.input_name)
        if value is None:
            raise InvalidInputError(f"input {self.input_name!r} is missing")
        return InferenceResponse(
            request.model, request.version or "1", {"y": value * 2}, request.id, {"served_by": "edge"}
        )

    def describe(self, name: str) -> ModelDescription:
        if name not in ("double", "slow"):
            raise ModelNotFoundError(f"model {name!r} is not here; there is 'double'")
        spec = TensorSpec(self.input_name, "FP32", (-1, 2))
        return ModelDescription(name, ("1",), "test_none", (spec,), (TensorSpec("y", "FP32", (-1, 2)),), 8)

    def server(self) -> ServerDescription:
        return ServerDescription("test", "1", ("model_configuration",))

    def index(self) -> list[IndexEntry]:
        return [IndexEntry("double", "1", ModelState.READY), IndexEntry("old", "1", ModelState.UNAVAILABLE, "gone")]


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.release.set()


def _grpc_methods(answers: Answers) -> dict[str, Callable[[Any], Message]]:
    def describe(request: inference.ModelMetadataRequest) -> Message:
        answers.describes += 1
        return grpc_descriptions.encode_model(answers.describe(request.name))

    def load(request: inference.RepositoryModelLoadRequest) -> Message:
        answers.loads.append((request.model_name, grpc_descriptions.decode_load_parameters(request)))
        return inference.RepositoryModelLoadResponse()

    def ready(request: inference.ModelReadyRequest) -> Message:
        answers.describe(request.name)
        return inference.ModelReadyResponse(ready=True)

    return {
        "ServerLive": lambda _: inference.ServerLiveResponse(live=True),
        "ServerReady": lambda _: inference.ServerReadyResponse(ready=False),
        "ServerMetadata": lambda _: grpc_descriptions.encode_server(answers.server()),
        "ModelReady": ready,
        "ModelMetadata": describe,
        "ModelConfig": lambda request: model_config.encode_config(answers.describe(request.name)),
        "ModelInfer": lambda request: grpc_codec.encode_response(answers.infer(grpc_codec.decode_request(request))),
        "RepositoryIndex": lambda request: grpc_descriptions.encode_index(answers.index(), only_ready=request.ready),
        "RepositoryModelLoad": load,
    }


@pytest.fixture
def grpc_server(answers: Answers) -> Iterator[tuple[grpc.Server, str]]:
    """A running gRPC server and its address."""

    def handler(name: str, answer: Callable[[Any], Message]) -> Any:
        def call(request: Message, context: grpc.ServicerContext) -> Message:
            answers.keys.append({str(k): str(v) for k, v in context.invocation_metadata()}.get("authorization"))
            try:
                return answer(request)
            except Exception as error:
                context.set_trailing_metadata(tuple(hints_of(error).items()))
                context.abort(grpc.StatusCode[status_of(error).grpc], text_of(error))

        method = inference.METHODS[name]
        return grpc.unary_unary_rpc_method_handler(call, method.request.FromString, method.response.SerializeToString)

    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.max_receive_message_length", 2**20)])
    handlers = {name: handler(name, answer) for name, answer in _grpc_methods(answers).items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(inference.SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield server, f"127.0.0.1:{port}"
    answers.release.set()
    server.stop(None).wait()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answers: Answers
    connections: set[Any]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        self.connections.add(self.connection)
        self.answers.keys.append(self.headers.get("authorization"))
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            status, reply, hints = 200, self._reply(self.path.strip("/").split("/"), body), {}
        except Exception as error:
            status, hints = status_of(error).http, hints_of(error)
            reply = _json(rest_descriptions.error_json(error))
        self.send_response(status)
        for name, value in hints.items():
            self.send_header(name, value)
        if reply.header_length is not None:
            self.send_header(HEADER_LENGTH, str(reply.header_length))
        self.send_header("Content-Length", str(reply.size_bytes))
        self.end_headers()
        self.wfile.write(reply.joined())

    def _reply(self, path: list[str], body: bytes) -> Body:
        answers = self.answers
        match path:
            case ["v2"]:
                return _json(rest_descriptions.server_json(answers.server()))
            case ["v2", "health", "live"]:
                return _json(rest_descriptions.live_json(True))
            case ["v2", "health", "ready"]:
                raise answers.not_ready
            case ["v2", "models", name] | ["v2", "models", name, "versions", "1"]:
                answers.describes += 1
                return _json(rest_descriptions.model_json(answers.describe(name)))
            case ["v2", "models", name, "config"] | ["v2", "models", name, "versions", "1", "config"]:
                return _json(model_config.config_json(answers.describe(name)))
            case ["v2", "models", name, "ready"] | ["v2", "models", name, "versions", "1", "ready"]:
                answers.describe(name)
                return _json(rest_descriptions.model_ready_json(name, True))
            case ["v2", "models", name, "infer"]:
                return self._infer(name, "", body)
            case ["v2", "models", name, "versions", version, "infer"]:
                return self._infer(name, version, body)
            case ["v2", "repository", "index"]:
                return _json(
                    rest_descriptions.index_json(
                        answers.index(), only_ready=rest_descriptions.decode_index_request(body)
                    )
                )
            case ["v2", "repository", "models", name, "load"]:
                answers.loads.append((name, rest_descriptions.decode_load_parameters(body)))
                return _json({})
        raise ModelNotFoundError(self.path)

    def _infer(self, name: str, version: str, body: bytes) -> Body:
        request, wanted = rest_codec.decode_request(name, version, body, self.headers.get(HEADER_LENGTH))
        return rest_codec.encode_response(self.answers.infer(request), wanted)


def _json(document: object) -> Body:
    return Body((json.dumps(document).encode(),))


@pytest.fixture
def http_server(answers: Answers) -> Iterator[tuple[ThreadingHTTPServer, str]]:
    """A running HTTP server (`connections`: the sockets seen) and its address."""
    handler = type("Handler", (_Handler,), {"answers": answers, "connections": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server, f"http://127.0.0.1:{server.server_address[1]}"
    answers.release.set()
    server.shutdown()
    server.server_close()
    thread.join()

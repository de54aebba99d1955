"""One request as it goes over the wire, a row of the digits model or a large tensor, and what has to come back."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos import inference
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.tensors import Array
from runtime.wire import grpc_codec, rest_codec
from runtime.wire.rest_body import HEADER_LENGTH
from runtime.wire.values import InferenceRequest

INPUT, OUTPUT = "image", "probabilities"
IDENTITY_INPUT = "INPUT0"
INFER_PATH = inference.METHODS["ModelInfer"].path

# Engines of different versions order their sums differently; a wrong row or model is off by far more.
TOLERANCE = 1e-4

# gRPC's frame around a message: one byte whether it is compressed, four of its length.
_FRAME_BYTES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """What everybody is sent, and what everybody has to answer."""

    image: Array
    """[1, 1, 8, 8] of the digits."""
    probabilities: Array
    """[1, 10] of the digits."""
    input_name: str = INPUT

    @classmethod
    def of_digits(cls) -> Row:
        """The first labelled sample of the bundle that ships, with the reference output that ships beside it."""
        samples = read_bundle(shipped_bundles()["digits"]).samples()
        assert samples is not None, "the bundle that ships has samples"
        return cls(samples.inputs[INPUT][:1], samples.outputs[OUTPUT][:1])

    @classmethod
    def of_identity(cls) -> Row:
        """A picture of 602 KB, [1, 3, 224, 224] float32, which has to come back as it is."""
        picture = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
        return cls(picture, picture, IDENTITY_INPUT)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A POST of `body` to `path`; `decode` finds the tensor of the answer in the reply's body."""

    protocol: str
    """As tables name it: "gRPC", "REST binary", "REST JSON"."""
    path: str
    body: bytes
    headers: Mapping[str, str]
    decode: Callable[[bytes, Mapping[str, str]], Array]
    expected: Array
    is_grpc: bool = False
    tolerance: float = TOLERANCE
    """How far any number of the answer may be from `expected`."""

    def check(self, port: int, timeout_s: float = 20.0) -> int:
        """Sends it once to 127.0.0.1 and returns the size of the reply's body; `WrongAnswerError` for another answer."""
        reply, headers = (_ask_grpc if self.is_grpc else _ask_http)(self, port, timeout_s)
        try:
            found = np.asarray(self.decode(reply, headers), dtype=np.float32)
        except Exception as error:
            raise WrongAnswerError(f"{self.protocol}: the reply {reply[:200]!r} does not decode: {error}") from error
        if found.size != self.expected.size or not np.allclose(
            found.reshape(self.expected.shape), self.expected, atol=self.tolerance
        ):
            raise WrongAnswerError(
                f"{self.protocol}: answered {found.reshape(-1)[:10].tolist()}; expected {self.expected.reshape(-1).tolist()}"
            )
        return len(reply) + (_FRAME_BYTES if self.is_grpc else 0)


class WrongAnswerError(Exception):
    """A server answered, but not with what the model says."""


def grpc_exchange(model: str, row: Row) -> Exchange:
    """ModelInfer with raw contents."""
    message = grpc_codec.encode_request(InferenceRequest(model, {row.input_name: row.image})).SerializeToString()
    return Exchange("gRPC", INFER_PATH, frame(message), GRPC_HEADERS, _decode_grpc, row.probabilities, is_grpc=True)


def rest_binary_exchange(model: str, row: Row) -> Exchange:
    """`/v2/models/NAME/infer` with binary tensors both ways."""
    body = rest_codec.encode_request(InferenceRequest(model, {row.input_name: row.image}), binary=True)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(body.header_length)}
    return Exchange("REST binary", f"/v2/models/{model}/infer", body.joined(), headers, _decode_rest, row.probabilities)


def plain_json_exchange(path: str, row: Row) -> Exchange:
    """A server's own route: `{"image": [...]}` in, `{"probabilities": [...]}` out."""
    body = json.dumps({INPUT: row.image.tolist()}).encode()
    return Exchange(
        "HTTP JSON", path, body, {"content-type": "application/json"}, _decode_plain_json, row.probabilities
    )


def grpc_echo_exchange(row: Row) -> Exchange:
    """The same bytes as `grpc_exchange`, for a server that sends back what it got."""
    message = grpc_codec.encode_request(InferenceRequest("digits", {row.input_name: row.image})).SerializeToString()

    def decode(reply: bytes, _: Mapping[str, str]) -> Array:
        return grpc_codec.decode_request(inference.ModelInferRequest.FromString(reply)).inputs[row.input_name]

    return Exchange("gRPC", INFER_PATH, frame(message), GRPC_HEADERS, decode, row.image, is_grpc=True)


def rest_echo_exchange(row: Row) -> Exchange:
    """The tensor's bytes, for a server that sends back what it got."""
    headers = {"content-type": "application/octet-stream"}
    return Exchange("HTTP", "/", row.image.tobytes(), headers, lambda b, _: np.frombuffer(b, np.float32), row.image)


def rest_bare_exchange(row: Row) -> Exchange:
    """The tensor's bytes, for a server that runs the model and knows no protocol."""

    def decode(reply: bytes, _: Mapping[str, str]) -> Array:
        return np.frombuffer(reply, np.float32)

    headers = {"content-type": "application/octet-stream"}
    return Exchange("HTTP", "/", row.image.tobytes(), headers, decode, row.probabilities)


GRPC_HEADERS: Mapping[str, str] = {"content-type": "application/grpc", "te": "trailers"}


def frame(message: bytes) -> bytes:
    """The message as gRPC sends it: uncompressed, its length in front."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _ask_grpc(exchange: Exchange, port: int, timeout_s: float) -> tuple[bytes, Mapping[str, str]]:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(exchange.path)
        try:
            return call(exchange.body[_FRAME_BYTES:], timeout=timeout_s, wait_for_ready=False), {}
        except grpc.RpcError as error:
            raise ConnectionError(f"{exchange.protocol}: {error.code()}: {error.details()}") from error


def _ask_http(exchange: Exchange, port: int, timeout_s: float) -> tuple[bytes, Mapping[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", exchange.path, exchange.body, dict(exchange.headers))
        response = connection.getresponse()
        reply = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise ConnectionError(f"{exchange.protocol}: status {response.status}: {reply[:300]!r}")
    return reply, {name.lower(): value for name, value in response.headers.items()}


def _decode_grpc(reply: bytes, _: Mapping[str, str]) -> Array:
    response = grpc_codec.decode_response(inference.ModelInferResponse.FromString(reply))
    return next(iter(response.outputs.values()))


def _decode_rest(reply: bytes, headers: Mapping[str, str]) -> Array:
    response = rest_codec.decode_response(reply, headers.get(HEADER_LENGTH.lower()))
    return next(iter(response.outputs.values()))


def _decode_plain_json(reply: bytes, _: Mapping[str, str]) -> Array:
    return np.array(json.loads(reply)[OUTPUT], dtype=np.float32)

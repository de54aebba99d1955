"""The ways to reach a server, all as one: send a `Call`, get an `Outcome`. Each speaks its protocol by hand or through
somebody else's client, never through our own codecs."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import numpy as np

from protos import inference
from runtime.tensors import datatype_of


@dataclass
class Call:
    model: str
    inputs: dict[str, np.ndarray]
    version: str = ""
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What came back; `status` is a gRPC code's name, an HTTP status, or "OK"."""

    status: str | int
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    model: str = ""
    version: str = ""
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    hints: dict[str, str] = field(default_factory=dict)


class Client(Protocol):
    is_http: bool

    def send(self, call: Call) -> Outcome: ...


def grpc_call(channel: grpc.Channel, rpc: str, message: Any, **options: Any) -> Any:
    method = inference.METHODS[rpc]
    stub = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
    return stub(message, **{"timeout": 20, **options})


def infer_message(call: Call) -> inference.ModelInferRequest:
    message = inference.ModelInferRequest(model_name=call.model, model_version=call.version, id=call.id)
    for name, value in call.inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(value.dtype), shape=value.shape)
        message.raw_input_contents.append(pack(value))
    for name, value in call.parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    for name in call.outputs:
        message.outputs.add(name=name)
    return message


def outcome_of(reply: inference.ModelInferResponse) -> Outcome:
    return Outcome(
        "OK",
        {
            tensor.name: unpack(tensor.datatype, tuple(tensor.shape), raw)
            for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
        },
        reply.model_name,
        reply.model_version,
        reply.id,
        {name: getattr(p, p.WhichOneof("parameter_choice")) for name, p in reply.parameters.items()},
    )


class GrpcClient:
    is_http = False

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)

    def send(self, call: Call) -> Outcome:
        try:
            return outcome_of(grpc_call(self.channel, "ModelInfer", infer_message(call)))
        except grpc.RpcError as error:
            hints = dict(error.trailing_metadata() or ())
            return Outcome(error.code().name, text=error.details(), hints=hints)

    def close(self) -> None:
        self.channel.close()


class HttpClient:
    """REST, with binary tensors or JSON."""

    is_http = True

    def __init__(self, address: str, *, binary: bool) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=20)
        self.binary = binary

    def send(self, call: Call) -> Outcome:
        body, headers = self.encode(call)
        version = f"/versions/{call.version}" if call.version else ""
        status, reply_headers, data = self.request("POST", f"/v2/models/{call.model}{version}/infer", body, headers)
        if status != 200:
            hints = {name.lower(): value for name, value in reply_headers.items()}
            return Outcome(status, text=json.loads(data)["error"], hints=hints)
        return self.decode(reply_headers, data)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def encode(self, call: Call) -> tuple[bytes, dict[str, str]]:
        document: dict[str, Any] = {"id": call.id, "parameters": dict(call.parameters), "inputs": []}
        chunks = []
        for name, value in call.inputs.items():
            tensor = {"name": name, "datatype": datatype_of(value.dtype), "shape": list(value.shape)}
            if self.binary:
                chunks.append(pack(value))
                tensor["parameters"] = {"binary_data_size": len(chunks[-1])}
            else:
                tensor["data"] = [v.decode() if isinstance(v, bytes) else v for v in value.reshape(-1).tolist()]
            document["inputs"].append(tensor)
        if self.binary:
            document["parameters"].setdefault("binary_data_output", True)
        if call.outputs:
            document["outputs"] = [{"name": name} for name in call.outputs]
        head = json.dumps(document).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))} if self.binary else {}
        return head + b"".join(chunks), headers

    def decode(self, headers: http.client.HTTPMessage, data: bytes) -> Outcome:
        length = int(headers.get("Inference-Header-Content-Length", len(data)))
        document, rest = json.loads(data[:length]), data[length:]
        outputs = {}
        for tensor in document["outputs"]:
            size = tensor.get("parameters", {}).get("binary_data_size")
            shape = tuple(tensor["shape"])
            if size is None:
                flat = [v.encode() if isinstance(v, str) else v for v in tensor["data"]]
                dtype = object if tensor["datatype"] == "BYTES" else numpy_of(tensor["datatype"])
                value = np.empty(len(flat), dtype=dtype)
                value[:] = flat
                outputs[tensor["name"]] = value.reshape(shape)
            else:
                outputs[tensor["name"]] = unpack(tensor["datatype"], shape, rest[:size])
                rest = rest[size:]
        assert not rest
        return Outcome(
            "OK",
            outputs,
            document["model_name"],
            document["model_version"],
            document.get("id", ""),
            document.get("parameters", {}),
        )

    def close(self) -> None:
        self.connection.close()


def numpy_of(datatype: str) -> np.dtype:
    if datatype == "BF16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    names = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
    return np.dtype(names.get(datatype, datatype.lower()))


def pack(value: np.ndarray) -> bytes:
    if value.dtype == object:
        return b"".join(len(item).to_bytes(4, "little") + item for item in value.reshape(-1))
    return value.tobytes()


def unpack(datatype: str, shape: tuple[int, ...], raw: bytes) -> np.ndarray:
    if datatype != "BYTES":
        return np.frombuffer(raw, numpy_of(datatype)).reshape(shape)
    items = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        items.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    value = np.empty(len(items), dtype=object)
    value[:] = items
    return value.reshape(shape)

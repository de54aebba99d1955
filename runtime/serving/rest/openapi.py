"""The OpenAPI document of `GET /v2/openapi.json`, for people, client generators and fuzzers.

It names every route of the protocol with its schemas, and a program's own routes with what they are for. Pages for a browser are
not in it. Tests compare the routes with those that are served.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from runtime.serving.rest.extra_route import ExtraRoute
from runtime.tensors import DATATYPES
from runtime.wire.values import ModelState

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    reply: str | None
    """Name of the reply's schema; None: the reply is text."""
    body: str | None = None
    """Name of the body's schema; None: there is none."""
    is_body_required: bool = False
    is_open: bool = False
    """Whether it is answered without an API key."""


_ANY = "*"
"""In place of a schema: what the module behind the route says of it."""
_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_SYSTEM, _CUDA, _REGION = "/v2/systemsharedmemory", "/v2/cudasharedmemory", "region/{name}"


def operations() -> Iterator[Operation]:
    """Every method of every path that a server answers; what a program answers beside the protocol is not among them."""
    yield Operation("GET", "/v2/health/live", "Whether the process works", "Health", is_open=True)
    yield Operation("GET", "/v2/health/ready", "Whether new requests are welcome", "Health", is_open=True)
    yield Operation("GET", "/v2", "Name, version and extensions of the server", "Server")
    yield Operation("GET", "/v2/", "Name, version and extensions of the server", "Server")
    yield Operation("GET", "/v2/openapi.json", "This document", "Document")
    yield Operation("GET", "/metrics", "What models did, for Prometheus", None)
    yield Operation("GET", "/v2/models/stats", "What every model did", "Statistics")
    for at in (_MODEL, _VERSION):
        yield Operation("GET", at, "Tensors and versions of a model", "Model")
        yield Operation("GET", f"{at}/ready", "Whether a model would answer", "Health")
        yield Operation("GET", f"{at}/config", "Triton's ModelConfig", "Config")
        yield Operation("GET", f"{at}/stats", "What a model did", "Statistics")
        yield Operation("POST", f"{at}/infer", "One inference", "InferReply", "InferRequest", is_body_required=True)
    yield Operation("POST", "/v2/repository/index", "Models and their states", "Index", "IndexRequest")
    for verb, does in (("load", "Loads or reloads a model"), ("unload", "Takes a model out of service")):
        yield Operation("POST", f"/v2/repository/models/{{model}}/{verb}", does, "Document", f"{verb.title()}Request")
    for kind, where, schema in ((_SYSTEM, "system", "System"), (_CUDA, "CUDA", "Cuda")):
        for at in (kind, f"{kind}/{_REGION}"):
            yield Operation("GET", f"{at}/status", f"Registered regions of {where} shared memory", f"{schema}Regions")
            yield Operation("POST", f"{at}/unregister", f"Forgets regions of {where} shared memory", "Document")
        yield Operation(
            "POST",
            f"{kind}/{_REGION}/register",
            f"Registers a region of {where} shared memory",
            "Document",
            f"Register{schema}Request",
            is_body_required=True,
        )
    for at in ("/v2", _MODEL):
        yield Operation("GET", f"{at}/trace/setting", "Trace settings in force", "Settings")
        yield Operation("POST", f"{at}/trace/setting", "Changes trace settings", "Settings", "TraceRequest")
    yield Operation("GET", "/v2/logging", "Log settings in force", "Settings")
    yield Operation("POST", "/v2/logging", "Changes log settings", "Settings", "LogRequest")


def own_operations(routes: Iterable[ExtraRoute]) -> Iterator[Operation]:
    """What a program answers beside the protocol, without its pages."""
    for route in routes:
        if route.summary is None:
            continue
        for method in route.methods.split():
            yield Operation(method, route.path, route.summary, _ANY, _ANY if method == "POST" else None)


def openapi_document(name: str, version: str, own: Iterable[Operation] = ()) -> dict[str, Any]:
    """The document; `own`: what the program answers beside the protocol."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in (*operations(), *own):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": version or "0",
            "description": "The Open Inference Protocol v2 with Triton's extensions.",
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "responses": {
                "Error": {
                    "description": "What is wrong, and what to do",
                    "content": _json("#/components/schemas/Error"),
                }
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": re.sub(r"[^a-z]+", "_", f"{operation.method}{operation.path}".lower()).strip("_")
        + ("_" if operation.path.endswith("/") else ""),
        "summary": operation.summary,
        "parameters": [_PARAMETERS[word] for word in re.findall(r"{(\w+)}", operation.path)],
        # Where a server was given keys; without, nobody is asked for one.
        "security": [{}] if operation.is_open else [{}, {"key": []}],
        "responses": {"200": {"description": "OK", "content": _content(operation.reply)}, **_ERRORS},
    }
    if operation.body is not None:
        told["requestBody"] = {
            "required": operation.is_body_required,
            "content": _content(operation.body),
        }
        if operation.body == "InferRequest":
            told["parameters"] = [*told["parameters"], *_INFER_HEADERS]
    return told


def _content(reply: str | None) -> dict[str, Any]:
    if reply is None:
        return {"text/plain": {"schema": {"type": "string"}}}
    if reply == _ANY:
        return {"*/*": {}}
    found = _json(f"#/components/schemas/{reply}")
    return {**found, "application/octet-stream": {}} if reply == "InferReply" else found


def _json(reference: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": reference}}}


_ERRORS = {
    str(status): {"$ref": "#/components/responses/Error"}
    for status in (400, 401, 404, 405, 413, 499, 500, 501, 502, 503, 504)
}


def _path(name: str, text: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string", "minLength": 1},
    }


def _header(name: str, text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


_PARAMETERS = {
    "model": _path("model", "Name of a model"),
    "version": _path("version", "Version of the model, a number"),
    "name": _path("name", "Name of a region"),
    "id": _path("id", "Number of a job"),
    "key": _path("key", "Key of a kept request"),
}
_INFER_HEADERS = [
    _header(
        "Inference-Header-Content-Length",
        "Bytes of JSON in the body, where raw tensors follow it",
        {"type": "integer", "minimum": 1},
    ),
    _header("Edgeward-Timeout-Ms", "How long the client waits", {"type": "number", "exclusiveMinimum": 0}),
]


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _named(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_SHAPE = _list({"type": "integer"})
_SPEC = _object(("name", "datatype", "shape"), name=_TEXT, datatype=_TEXT, shape=_SHAPE)
_PARAMETER_MAP: Schema = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}
_TENSOR = _object(
    ("name", "shape", "datatype"),
    name=_TEXT,
    shape=_SHAPE,
    datatype={"type": "string", "enum": sorted(DATATYPES)},
    parameters=_PARAMETER_MAP,
    data={"type": "array"},
)
_SCHEMAS: dict[str, Schema] = {
    "Error": _object(("error",), error=_TEXT),
    "Document": {"type": "object"},
    "Health": _object(name=_TEXT, live=_FLAG, ready=_FLAG),
    "Server": _object(("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "Model": _object(
        ("name", "versions", "platform", "inputs", "outputs"),
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(_SPEC),
        outputs=_list(_SPEC),
    ),
    "Config": _object(("name", "max_batch_size"), name=_TEXT, max_batch_size=_COUNT),
    "Statistics": _object(
        ("model_stats",),
        model_stats=_list(
            _object(("name", "version"), name=_TEXT, version=_TEXT, inference_count=_COUNT, execution_count=_COUNT)
        ),
    ),
    "InferRequest": _object(
        ("inputs",),
        id=_TEXT,
        parameters=_PARAMETER_MAP,
        inputs=_list(_named("Tensor")),
        outputs=_list(_object(("name",), name=_TEXT, parameters=_PARAMETER_MAP)),
    ),
    "InferReply": _object(
        ("model_name", "model_version", "outputs"),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETER_MAP,
        outputs=_list(_named("Tensor")),
    ),
    "Tensor": _TENSOR,
    "IndexRequest": _object(ready=_FLAG),
    "Index": _list(
        _object(
            ("name", "version", "state", "reason"),
            name=_TEXT,
            version=_TEXT,
            state={"type": "string", "enum": [str(state) for state in ModelState]},
            reason=_TEXT,
        )
    ),
    "LoadRequest": _object(parameters=_PARAMETER_MAP),
    "UnloadRequest": _object(parameters=_object(unload_dependents=_FLAG)),
    "SystemRegions": _list(
        _object(("name", "key", "offset", "byte_size"), name=_TEXT, key=_TEXT, offset=_COUNT, byte_size=_COUNT)
    ),
    "CudaRegions": _list(_object(("name", "device_id", "byte_size"), name=_TEXT, device_id=_COUNT, byte_size=_COUNT)),
    "RegisterSystemRequest": _object(("key", "byte_size"), key=_TEXT, offset=_COUNT, byte_size=_COUNT),
    "RegisterCudaRequest": _object(
        ("raw_handle", "device_id", "byte_size"),
        raw_handle=_object(("b64",), b64={"type": "string", "contentEncoding": "base64"}),
        device_id=_COUNT,
        byte_size=_COUNT,
    ),
    "Settings": {"type": "object"},
    "TraceRequest": {
        "type": "object",
        "additionalProperties": {"type": ["string", "integer", "array", "null"], "items": {"type": "string"}},
    },
    "LogRequest": _object(log_info=_FLAG, log_warning=_FLAG, log_error=_FLAG, log_verbose_level=_COUNT),
}

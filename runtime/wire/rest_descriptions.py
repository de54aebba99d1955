"""Everything on REST but inference, as JSON objects: health, metadata, repository index, load parameters, errors.

ModelConfig has a file of its own (`model_config`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.errors import InvalidInputError, PeerFailedError
from runtime.tensors import TensorSpec
from runtime.wire.grpc_descriptions import state_named
from runtime.wire.rest_body import json_kind, parse_object
from runtime.wire.status import text_of
from runtime.wire.values import IndexEntry, ModelDescription, ModelState, ServerDescription

# A load parameter with this prefix carries a file, base64 in JSON (Triton's repository extension).
FILE_PREFIX = "file:"


def live_json(is_live: bool) -> dict[str, Any]:
    """Body of `GET /v2/health/live`; KServe's client reads it, Triton's looks at the status alone."""
    return {"live": is_live}


def ready_json(is_ready: bool) -> dict[str, Any]:
    """Body of `GET /v2/health/ready`."""
    return {"ready": is_ready}


def model_ready_json(name: str, is_ready: bool) -> dict[str, Any]:
    """Body of `GET /v2/models/NAME/ready`."""
    return {"name": name, "ready": is_ready}


def error_json(error: BaseException) -> dict[str, Any]:
    """Body of every reply that is an error; says nothing of an exception that is not ours."""
    return {"error": text_of(error)}


def server_json(description: ServerDescription) -> dict[str, Any]:
    """Body of `GET /v2`."""
    return {
        "name": description.name,
        "version": description.version,
        "extensions": list(description.extensions),
    }


def model_json(description: ModelDescription) -> dict[str, Any]:
    """Body of `GET /v2/models/NAME`; shapes include the batch."""
    return {
        "name": description.name,
        "versions": list(description.versions),
        "platform": description.platform,
        "inputs": [_spec_json(spec) for spec in description.inputs],
        "outputs": [_spec_json(spec) for spec in description.outputs],
    }


def index_json(entries: Iterable[IndexEntry], *, only_ready: bool = False) -> list[dict[str, Any]]:
    """Body of `POST /v2/repository/index`; `only_ready` is what the request's body asks with `ready`."""
    return [
        {"name": entry.name, "version": entry.version, "state": entry.state.value, "reason": entry.reason}
        for entry in entries
        if entry.state is ModelState.READY or not only_ready
    ]


def decode_index_request(body: bytes) -> bool:
    """Whether only ready models are asked for; an empty body asks for all."""
    if not body.strip():
        return False
    ready = parse_object(body).get("ready", False)
    if not isinstance(ready, bool):
        raise InvalidInputError(f"`ready` is {ready!r:.80}; expected true or false")
    return ready


def decode_load_parameters(body: bytes) -> dict[str, object]:
    """Parameters of a load or unload; an overriding file (`file:PATH`) comes as bytes. An empty body has none."""
    if not body.strip():
        return {}
    parameters = parse_object(body).get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInputError(f"`parameters` is a JSON {json_kind(parameters)}; expected an object")
    return {name: _load_parameter(name, value) for name, value in parameters.items()}


def encode_load_parameters(parameters: Mapping[str, object]) -> dict[str, Any]:
    """Body of a load request; bytes go as base64."""
    return {
        "parameters": {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in parameters.items()
        }
    }


def decode_server(document: Mapping[str, Any]) -> ServerDescription:
    """What a server says of itself."""
    with _PeerReply("server metadata"):
        return ServerDescription(
            str(document["name"]), str(document.get("version", "")), tuple(map(str, document.get("extensions") or ()))
        )


def decode_model(document: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> ModelDescription:
    """What a server says of a model. Without its config the batch limit reads 0 and the parameters are empty."""
    with _PeerReply("model metadata"):
        parameters = {} if config is None else config.get("parameters") or {}
        return ModelDescription(
            name=str(document["name"]),
            versions=tuple(map(str, document.get("versions") or ())),
            platform=str(document.get("platform", "")),
            inputs=tuple(map(_decode_spec, document.get("inputs") or ())),
            outputs=tuple(map(_decode_spec, document.get("outputs") or ())),
            max_batch_size=0 if config is None else int(config.get("max_batch_size", 0)),
            parameters={str(name): str(value["string_value"]) for name, value in parameters.items()},
        )


def decode_index(entries: Iterable[Mapping[str, Any]]) -> list[IndexEntry]:
    """The models that a server knows."""
    with _PeerReply("repository index"):
        return [
            IndexEntry(
                str(entry["name"]),
                str(entry.get("version", "")),
                state_named(str(entry.get("state", ""))),
                str(entry.get("reason", "")),
            )
            for entry in entries
        ]


class _PeerReply:
    """Whatever a reply of another shape trips over is the peer's failure."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError):
            raise PeerFailedError(
                f"the server's {self._what} is not what the protocol says: {type(error).__name__}: {error}"
            ) from error


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _decode_spec(tensor: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(str(tensor["name"]), str(tensor["datatype"]), tuple(map(int, tensor["shape"])))


def _load_parameter(name: str, value: object) -> object:
    if name.startswith(FILE_PREFIX):
        if not isinstance(value, str):
            raise InvalidInputError(f"load parameter {name!r} is a JSON {json_kind(value)}; expected a base64 string")
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError(f"load parameter {name!r} is not base64: {error}") from None
    if isinstance(value, bool | int | float | str):
        return value
    raise InvalidInputError(
        f"load parameter {name!r} is a JSON {json_kind(value)}; expected a boolean, number or string"
    )

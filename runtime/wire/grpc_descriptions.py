"""Everything on gRPC but inference: server and model metadata, the repository index, load parameters; both ends.

ModelConfig has a file of its own (`model_config`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protos import inference
from runtime.errors import InvalidInputError, PeerFailedError
from runtime.tensors import TensorSpec
from runtime.wire.values import IndexEntry, ModelDescription, ModelState, ServerDescription

_TensorMetadata = inference.ModelMetadataResponse.TensorMetadata


def encode_server(description: ServerDescription) -> inference.ServerMetadataResponse:
    """The reply of ServerMetadata."""
    return inference.ServerMetadataResponse(
        name=description.name, version=description.version, extensions=description.extensions
    )


def decode_server(message: inference.ServerMetadataResponse) -> ServerDescription:
    """What a server says of itself."""
    return ServerDescription(message.name, message.version, tuple(message.extensions))


def encode_model(description: ModelDescription) -> inference.ModelMetadataResponse:
    """The reply of ModelMetadata; shapes include the batch."""
    return inference.ModelMetadataResponse(
        name=description.name,
        versions=description.versions,
        platform=description.platform,
        inputs=[_encode_spec(spec) for spec in description.inputs],
        outputs=[_encode_spec(spec) for spec in description.outputs],
    )


def decode_model(
    message: inference.ModelMetadataResponse, config: inference.ModelConfigResponse | None = None
) -> ModelDescription:
    """What a server says of a model. Without its ModelConfig the batch limit reads 0 and the parameters are empty."""
    parameters = {} if config is None else {name: p.string_value for name, p in config.config.parameters.items()}
    return ModelDescription(
        name=message.name,
        versions=tuple(message.versions),
        platform=message.platform,
        inputs=tuple(_decode_spec(tensor) for tensor in message.inputs),
        outputs=tuple(_decode_spec(tensor) for tensor in message.outputs),
        max_batch_size=0 if config is None else config.config.max_batch_size,
        parameters=parameters,
    )


def encode_index(entries: Iterable[IndexEntry], *, only_ready: bool = False) -> inference.RepositoryIndexResponse:
    """The reply of RepositoryIndex; `only_ready` is the request's field `ready`."""
    message = inference.RepositoryIndexResponse()
    for entry in entries:
        if entry.state is ModelState.READY or not only_ready:
            message.models.add(name=entry.name, version=entry.version, state=entry.state.value, reason=entry.reason)
    return message


def decode_index(message: inference.RepositoryIndexResponse) -> list[IndexEntry]:
    """The models that a server knows."""
    return [IndexEntry(m.name, m.version, state_named(m.state), m.reason) for m in message.models]


def state_named(state: str) -> ModelState:
    """A state by its name; Triton leaves it empty for a model it has only seen on disk."""
    try:
        return ModelState(state or ModelState.UNAVAILABLE)
    except ValueError:
        expected = ", ".join(ModelState)
        raise PeerFailedError(f"the server's index has the model state {state!r}; expected {expected}") from None


def decode_load_parameters(
    message: inference.RepositoryModelLoadRequest | inference.RepositoryModelUnloadRequest,
) -> dict[str, object]:
    """Parameters of a load or unload: bool, int, str, or bytes for an overriding file (`file:PATH`)."""
    values: dict[str, object] = {}
    for name, parameter in message.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidInputError(f"parameter {name!r} has no value; set one of bool, int64, string, bytes")
        values[name] = getattr(parameter, kind)
    return values


def encode_load(model: str, parameters: Mapping[str, object]) -> inference.RepositoryModelLoadRequest:
    """The request of RepositoryModelLoad."""
    message = inference.RepositoryModelLoadRequest(model_name=model)
    for name, value in parameters.items():
        parameter = message.parameters[name]
        match value:
            case bool():
                parameter.bool_param = value
            case int() if -(2**63) <= value < 2**63:
                parameter.int64_param = value
            case str():
                parameter.string_param = value
            case bytes():
                parameter.bytes_param = value
            case _:
                raise InvalidInputError(
                    f"load parameter {name!r} is {value!r:.80}; expected a bool, 64-bit integer, string or bytes"
                )
    return message


def _encode_spec(spec: TensorSpec) -> _TensorMetadata:
    return _TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _decode_spec(tensor: _TensorMetadata) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape))

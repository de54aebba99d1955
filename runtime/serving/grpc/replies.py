"""The reply to one ModelInfer as its request wants it: outputs in shared memory, raw, or typed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protos import inference
from runtime.serving.memory.shared_memory import write_outputs
from runtime.tensors import Chunk
from runtime.wire.grpc_codec import encode_response
from runtime.wire.grpc_repeats import ReplyEncoder
from runtime.wire.grpc_typed import encode_typed, wants_typed
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed

_NOTHING_PLACED: Final[Mapping[str, Placed]] = MappingProxyType({})


class GrpcReplies:
    """Makes one reply after another; `InvalidInputError` where what is wanted cannot be."""

    def __init__(self) -> None:
        self._encode = ReplyEncoder()

    def __call__(self, request: InferenceRequest, response: InferenceResponse) -> list[Chunk]:
        """The bytes of a ModelInferResponse, in chunks; views of large tensors among them."""
        placed = write_outputs(request, response) if request.outputs else _NOTHING_PLACED
        if wants_typed(request):
            return [encode_typed(response, placed).SerializeToString()]
        return self._encode(response, placed)


def reply_message(request: InferenceRequest, response: InferenceResponse) -> inference.ModelInferResponse:
    """The same as a message, for replies that are part of another."""
    placed = write_outputs(request, response)
    return encode_typed(response, placed) if wants_typed(request) else encode_response(response, placed)

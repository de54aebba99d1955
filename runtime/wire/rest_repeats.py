"""Bodies with binary tensors where one is like the last: see `repeats`. The long way, and every error, is `rest_codec`'s.

The JSON in front of the raw tensors is the same while names, shapes, parameters and outputs are; it is looked up as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from runtime.tensors import Array, Chunk
from runtime.wire.memory import TensorMemory
from runtime.wire.repeats import MAX_KEY_BYTES, Repeats, ReplyHead, ReplyKey, RequestHead, head_of, raw_of, reply_key
from runtime.wire.rest_body import Body
from runtime.wire.rest_codec import WantedBinary, decode_request, encode_response
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed

_NOTHING_PLACED: Mapping[str, Placed] = MappingProxyType({})
# "1024" has four; more digits than that are not looked at here.
_MAX_DIGITS = len(str(MAX_KEY_BYTES))


class RequestDecoder:
    """Decodes one body after another. `memory`: see `rest_codec.decode_request`."""

    def __init__(self, memory: TensorMemory | None = None) -> None:
        self._memory = memory
        self._heads: Repeats[bytes, tuple[RequestHead, WantedBinary]] = Repeats()

    def __call__(
        self, model: str, version: str, body: Chunk, header_length: str | None, deadline: float | None = None
    ) -> tuple[InferenceRequest, WantedBinary]:
        """As `decode_request` would decode it."""
        length = _plain_length(header_length)
        if length is None or not 0 < length < len(body):
            return decode_request(model, version, body, header_length, deadline, self._memory)
        key = bytes(body[:length])
        known = self._heads.get(key)
        if known is not None and len(body) - length == known[0].size_bytes:
            head, wanted = known
            inputs: dict[str, Array] = {}
            at = length
            for tensor in head.tensors:
                inputs[tensor.name] = np.frombuffer(body, tensor.dtype, tensor.count, at).reshape(tensor.shape)
                at += tensor.size_bytes
            return InferenceRequest(model, inputs, version, "", head.outputs, head.parameters, deadline), wanted
        request, wanted = decode_request(model, version, body, header_length, deadline, self._memory)
        if not request.id:
            learnt = head_of(request, len(body) - length)
            if learnt is not None:
                self._heads.keep(key, (learnt, wanted))
        return request, wanted


class ReplyEncoder:
    """Encodes one reply after another to its body."""

    def __init__(self) -> None:
        self._heads: Repeats[ReplyKey, ReplyHead] = Repeats()

    def __call__(
        self, response: InferenceResponse, wanted: WantedBinary, placed: Mapping[str, Placed] = _NOTHING_PLACED
    ) -> Body:
        """The body that `encode_response` would make."""
        outputs = response.outputs
        if placed or response.id or not outputs or not wanted.every or wanted.by_output:
            return encode_response(response, wanted, placed)
        key = reply_key(response.model, response.version, outputs)
        if key is None:
            return encode_response(response, wanted)
        head = self._heads.get(key)
        if head is None or head.parameters is not response.parameters:
            body = encode_response(response, wanted)
            self._heads.keep(key, ReplyHead(response.parameters, bytes(body.chunks[0])))
            return body
        return Body((head.encoded, *map(raw_of, outputs.values())), len(head.encoded))


def _plain_length(given: str | None) -> int | None:
    """The length of a header that is worth looking up; None for another, or for what is no plain number."""
    if given is None or len(given) > _MAX_DIGITS or not (given.isascii() and given.isdigit()):
        return None
    length = int(given)
    return length if length <= MAX_KEY_BYTES else None

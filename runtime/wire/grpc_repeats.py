"""ModelInfer where one message is like the last: see `repeats`. The long way, and every error, is `grpc_codec`'s.

Ids and raw contents are fields of their own in both messages. They are cut out of a request, whose rest is looked up, and put
behind what is kept of a reply: fields may stand in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from protos import inference
from runtime.tensors import Array, Chunk
from runtime.wire.grpc_codec import RAW_OUTPUT_TAG, decode_request, encode_head, parse, serialize_response, varint
from runtime.wire.memory import TensorMemory
from runtime.wire.repeats import (
    MAX_KEY_BYTES,
    VIEW_BYTES,
    RawTensor,
    Repeats,
    ReplyHead,
    ReplyKey,
    RequestHead,
    head_of,
    raw_of,
    reply_key,
)
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed

# Fields 1 to 7 of ModelInferRequest, all length-delimited: model, version, id, parameters, inputs, outputs, raw contents.
_TAGS = frozenset(field << 3 | 2 for field in range(1, 8))
_ID_TAG, _RAW_INPUT_TAG = 3 << 3 | 2, 7 << 3 | 2
_NOTHING_PLACED: Mapping[str, Placed] = MappingProxyType({})


class RequestDecoder:
    """Decodes the bytes of one ModelInferRequest after another. `memory`: see `grpc_codec.decode_request`."""

    def __init__(self, memory: TensorMemory | None = None) -> None:
        self._memory = memory
        self._heads: Repeats[bytes, RequestHead] = Repeats()
        self._begins_at: Repeats[int, int] = Repeats()
        """Where the only tensor began in the last message of such a length that had one, at its end, and no id."""
        self._before: Repeats[bytes, RequestHead] = Repeats()
        """By everything before the only tensor of such a message."""

    def __call__(self, raw: bytes, deadline: float | None = None) -> InferenceRequest:
        """The request, as `decode_request` would decode it; `InvalidInputError` also where `raw` is no message."""
        begins = self._begins_at.get(len(raw))
        if begins is not None:
            # Everything up to the tensor's bytes, its length among it, as a message before: so is the rest.
            head = self._before.get(raw[:begins])
            if head is not None and len(raw) - begins == head.size_bytes:
                return _with_tensors(head, "", raw, (begins,), deadline)
        parts = cut_out(raw)
        if parts is None:
            return decode_request(parse(inference.ModelInferRequest, raw), deadline, self._memory)
        head = self._heads.get(parts.rest)
        if head is None or parts.sizes != [tensor.size_bytes for tensor in head.tensors]:
            request = decode_request(parse(inference.ModelInferRequest, raw), deadline, self._memory)
            if len(parts.sizes) != len(request.inputs):
                return request
            head = head_of(request, sum(parts.sizes))
            if head is None:
                return request
            self._heads.keep(parts.rest, head)
        if len(parts.begins) == 1 and not parts.id and parts.begins[0] + parts.sizes[0] == len(raw):
            begins = parts.begins[0]
            self._begins_at.keep(len(raw), begins)
            self._before.keep(raw[:begins], head)
        return _with_tensors(head, parts.id, raw, parts.begins, deadline)


def _with_tensors(
    head: RequestHead, id_: str, raw: bytes, begins: Sequence[int], deadline: float | None
) -> InferenceRequest:
    inputs: dict[str, Array] = {}
    for tensor, at in zip(head.tensors, begins, strict=True):
        inputs[tensor.name] = _tensor(tensor, raw, at)
    return InferenceRequest(head.model, inputs, head.version, id_, head.outputs, head.parameters, deadline)


def _tensor(tensor: RawTensor, raw: bytes, at: int) -> Array:
    """The tensor that begins at `at`: a view of a large one, wherever it lies (engines take any address); else a copy."""
    if tensor.size_bytes >= VIEW_BYTES:
        return np.frombuffer(raw, tensor.dtype, tensor.count, at).reshape(tensor.shape)
    return np.frombuffer(raw[at : at + tensor.size_bytes], tensor.dtype).reshape(tensor.shape)


@dataclass(frozen=True, slots=True)
class CutOut:
    """A ModelInferRequest taken apart."""

    rest: bytes
    """All of it but its id and its raw contents."""
    id: str
    begins: list[int]
    """Where each of the raw contents begins, in order; a message that ends with one ends where that does."""
    sizes: list[int]
    """How many bytes each has."""


def cut_out(raw: bytes) -> CutOut | None:
    """The parts of a ModelInferRequest; None for what does not look like one, or is not worth keeping."""
    rest: list[bytes] = []
    begins: list[int] = []
    sizes: list[int] = []
    id_ = b""
    start = at = 0  # of what is not yet in `rest`; of the next field
    end = len(raw)
    while at < end - 1:
        tag, size, begin = raw[at], raw[at + 1], at + 2
        if size > 0x7F:
            size, begin = _long_size(raw, at + 1)
        if tag not in _TAGS or begin + size > end:
            return None
        if tag in (_RAW_INPUT_TAG, _ID_TAG):
            if at - start > MAX_KEY_BYTES:
                return None
            if start < at:
                rest.append(raw[start:at])
            start = begin + size
            if tag == _ID_TAG:
                id_ = raw[begin:start]
            else:
                begins.append(begin)
                sizes.append(size)
        at = begin + size
    if at != end or end - start > MAX_KEY_BYTES:
        return None
    if start < end:
        rest.append(raw[start:])
    try:
        return CutOut(b"".join(rest), str(id_, "utf-8"), begins, sizes)
    except UnicodeDecodeError:
        return None


def _long_size(raw: bytes, at: int) -> tuple[int, int]:
    """A length of two bytes or more that begins at `at`, and where it ends; more than any message holds where it is none."""
    size = 0
    for place, byte in enumerate(raw[at : at + 5]):
        size |= (byte & 0x7F) << 7 * place
        if byte <= 0x7F:
            return size, at + place + 1
    return 1 << 62, at


class ReplyEncoder:
    """Encodes one reply after another to a ModelInferResponse, as the chunks that make it; large tensors are views."""

    def __init__(self) -> None:
        self._heads: Repeats[ReplyKey, ReplyHead] = Repeats()

    def __call__(self, response: InferenceResponse, placed: Mapping[str, Placed] = _NOTHING_PLACED) -> list[Chunk]:
        """A message equal to that of `serialize_response`, its fields perhaps in another order."""
        outputs = response.outputs
        key = None if placed else reply_key(response.model, response.version, outputs)
        if key is None:
            return [serialize_response(response, placed)]
        head = self._heads.get(key)
        if head is None or head.parameters is not response.parameters:
            head = self._heads.keep(key, _reply_head(response))
        parts: list[Chunk] = [head.encoded]
        if response.id:
            id_ = response.id.encode()
            parts += (b"\x1a", varint(len(id_)), id_)
        for length, value in zip(head.lengths, outputs.values(), strict=True):
            parts += (length, raw_of(value))
        return parts


def _reply_head(response: InferenceResponse) -> ReplyHead:
    encoded = encode_head(replace(response, id=""), _NOTHING_PLACED).SerializeToString()
    lengths = tuple(RAW_OUTPUT_TAG + varint(value.nbytes) for value in response.outputs.values())
    return ReplyHead(response.parameters, encoded, lengths)

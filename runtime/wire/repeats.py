"""What one message has in common with the last ones, kept so that it is decoded or encoded once; for both protocols.

A client sends the same names, shapes and parameters over and over, and only raw tensors and ids differ. Whatever is out of the
ordinary, errors first of all, is left to the codecs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from runtime.tensors import Array, to_raw
from runtime.wire.values import InferenceRequest, Parameters, RequestedOutput

# Names, shapes and parameters of a tensor take some 50 bytes; what is longer holds data, and will not come again.
MAX_KEY_BYTES = 1024
# Each model, shape and set of parameters has one. A client that never repeats itself fills no more memory than this many.
MAX_KEPT = 256
# From here on a view is worth the Python that makes it; below, the copy is cheaper.
VIEW_BYTES = 1 << 16

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Repeats(Generic[K, V]):
    """A table that forgets everything when it is full: what does repeat is soon back."""

    __slots__ = ("_kept", "get")

    def __init__(self) -> None:
        self._kept: dict[K, V] = {}
        self.get: Callable[[K], V | None] = self._kept.get

    def keep(self, key: K, value: V) -> V:
        """Keeps `value` and returns it."""
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = value
        return value


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor whose elements have a fixed size, without its bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request but for its id, its raw tensors and its deadline."""

    model: str
    version: str
    outputs: tuple[RequestedOutput, ...]
    parameters: Parameters
    tensors: tuple[RawTensor, ...]
    size_bytes: int
    """Of all tensors."""


def head_of(request: InferenceRequest, raw_bytes: int) -> RequestHead | None:
    """What `request` has in common with the next one like it, where all its inputs came as `raw_bytes` bytes in order.

    None where some did not, hold elements of any length, or where an output goes to shared memory.
    """
    inputs = request.inputs
    if not inputs or any(value.dtype.hasobject or not value.size for value in inputs.values()):
        return None
    # Every input takes some bytes, so the sum is right only where every one was among the raw ones.
    if sum(value.nbytes for value in inputs.values()) != raw_bytes:
        return None
    if any(output.slot is not None for output in request.outputs):
        return None
    tensors = tuple(RawTensor(name, v.dtype, v.shape, v.size, v.nbytes) for name, v in inputs.items())
    return RequestHead(request.model, request.version, request.outputs, request.parameters, tensors, raw_bytes)


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """What goes before the raw outputs of a reply: good while its parameters are the very same mapping."""

    parameters: Parameters
    encoded: bytes
    lengths: tuple[bytes, ...] = ()
    """What goes before each raw output, where the protocol puts something there."""


class OneMore:
    """Reply parameters with one more: the very same mapping whenever the same is added to the very same one, as `ReplyHead` asks.

    A mapping made anew for every reply has each of them encoded from nothing.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: Repeats[tuple[int, str, str], tuple[Parameters, Parameters]] = Repeats()

    def __call__(self, parameters: Parameters, name: str, value: str) -> Parameters:
        """`parameters` and `name`; neither mapping is changed from here on."""
        key = id(parameters), name, value
        made = self._made.get(key)
        if made is None or made[0] is not parameters:
            made = self._made.keep(key, (parameters, {**parameters, name: value}))
        return made[1]


ReplyKey = tuple[object, ...]


def reply_key(model: str, version: str, outputs: Mapping[str, Array]) -> ReplyKey | None:
    """Equal for replies with equal heads, but for ids and parameters; None where an output has elements of any length."""
    key: list[object] = [model, version]
    for name, value in outputs.items():
        dtype = value.dtype
        if dtype.kind in "OSU" or not value.size:
            return None
        key += (name, dtype, value.shape)
    return tuple(key)


def raw_of(value: Array) -> bytes | memoryview:
    """The bytes of a tensor that has a `reply_key`: a view of a large one, a copy of a small one."""
    return to_raw(value) if value.nbytes >= VIEW_BYTES else value.tobytes()

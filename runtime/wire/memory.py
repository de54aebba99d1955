"""Tensors that lie in shared memory instead of in the message: the parameters that say so, for both protocols.

Who keeps the regions is not known here; see `runtime.serving.memory.shared_memory`.
"""

from __future__ import annotations

from typing import Protocol

from runtime.errors import InvalidInputError, UnsupportedError
from runtime.wire.values import Parameter, Slot

REGION, OFFSET, SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"


class TensorMemory(Protocol):
    """The regions that clients have registered."""

    def slot(self, region: str, offset: int, size_bytes: int) -> Slot:
        """That part of a region, good until the slot is dropped; `InvalidInputError` when there is no such part."""


def take_slot(whose: str, parameters: dict[str, Parameter], memory: TensorMemory | None) -> Slot | None:
    """Where the tensor lies, its parameters taken out of `parameters`; None: in the message."""
    region, offset, size = parameters.pop(REGION, None), parameters.pop(OFFSET, 0), parameters.pop(SIZE, None)
    refuse_memory(whose, parameters)
    if region is None:
        if size is not None:
            raise InvalidInputError(f"{whose} has the parameter {SIZE!r} without {REGION!r}; give both")
        return None
    if memory is None:
        raise UnsupportedError(f"parameter {REGION!r}: this server reads no shared memory; send the tensor itself")
    if not isinstance(region, str) or not region:
        raise InvalidInputError(f"parameter {REGION!r} of {whose} is {region!r:.80}; expected a region's name")
    for name, value in ((OFFSET, offset), (SIZE, size)):
        if type(value) is not int or value < 0:
            raise InvalidInputError(f"parameter {name!r} of {whose} is {value!r:.80}; expected a number of bytes")
    assert isinstance(offset, int), "checked above"
    assert isinstance(size, int), "checked above"
    return memory.slot(region, offset, size)


def refuse_memory(whose: str, parameters: dict[str, Parameter]) -> None:
    """`InvalidInputError` when shared memory is spoken of where no tensor is, or in words that nobody knows."""
    for name in parameters:
        if name.startswith("shared_memory_"):
            raise InvalidInputError(
                f"parameter {name!r} of {whose} means nothing; a tensor in shared memory has {REGION!r}, {SIZE!r} and {OFFSET!r}"
            )

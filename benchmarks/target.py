"""What answers requests, whatever it is: its face, and what is kept of an answer.

A target is asked the way a user asks it: `Model.predict` in process, `runtime.client` over the wire; so encoding and
decoding are part of what is measured. Any number of threads may call `infer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from runtime.tensors import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an answer came from, as its parameters say; empty where they do not."""

    served_by: str
    backend: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, and what the server said of its time where it was asked and knows (nanoseconds; -1: unknown)."""

    origin: Origin
    outputs: Mapping[str, Array] = field(default_factory=dict)
    queue_ns: int = -1
    batch_ns: int = -1
    execute_ns: int = -1


@dataclass(frozen=True, slots=True)
class Description:
    """What a target says of the model it serves."""

    model: str
    version: str
    inputs: tuple[TensorSpec, ...]
    server: str
    """Name and version of the server; empty in process."""
    platform: str
    digests: Mapping[str, str]
    """sha256 of the `bundle` and of the `variant` in use; empty where the server does not tell them."""


class Target(Protocol):
    """Something that answers requests. `infer` may be called from any thread."""

    def open(self) -> None:
        """Makes ready; errors of `runtime.errors`."""

    def infer(self, inputs: Mapping[str, Array]) -> Answer:
        """Asks once; errors of `runtime.errors`."""

    def describe(self) -> Description:
        """What it serves, after `open`."""

    def close(self) -> None:
        """Gives everything back."""

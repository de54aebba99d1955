"""What crosses the data plane: requests, replies and the descriptions of servers and models, as values.

Transports translate their messages into these and back; the data plane knows nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runtime.tensors import Array, TensorSpec

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]


class Route(StrEnum):
    """Request parameter `route`: who is to answer."""

    AUTO = "auto"
    EDGE = "edge"
    CLOUD = "cloud"


class Privacy(StrEnum):
    """Request parameter `privacy`: whether the request may leave this machine."""

    ANY = "any"
    LOCAL_ONLY = "local_only"


class ServedBy(StrEnum):
    """Reply parameter `served_by`: who answered."""

    EDGE = "edge"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the caller asks for, with its parameters (`classification`, `binary_data`, ...)."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One call of ModelInfer, decoded but not yet checked against the model."""

    model: str
    inputs: Mapping[str, Array]
    version: str = ""
    """Empty: the server's version policy chooses."""
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    """Empty: all of them."""
    parameters: Parameters = field(default_factory=dict)
    deadline: float | None = None
    """Monotonic seconds (`time.monotonic`) after which nobody waits for the answer."""


@dataclass(frozen=True, slots=True)
class InferenceResponse:
    """The answer to one `InferenceRequest`."""

    model: str
    version: str
    outputs: Mapping[str, Array]
    id: str = ""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """Reply of ServerMetadata."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Reply of ModelMetadata, and what ModelConfig is made from."""

    name: str
    versions: tuple[str, ...]
    """Every version that is ready, lowest first."""
    platform: str
    """Engine and format of the chosen variant, such as "onnxruntime_onnx"."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    """0 when the model takes no batch dimension, in ModelConfig's sense."""
    parameters: Parameters = field(default_factory=dict)
    """Ours: variant, backend, options, ..."""


class ModelState(StrEnum):
    """State of one version in the repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index."""

    name: str
    version: str
    state: ModelState
    reason: str = ""

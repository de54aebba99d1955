"""What crosses the data plane: requests, replies and the descriptions of servers and models, as values.

Transports translate their messages into these and back; the data plane knows nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from runtime.tensors import Array, TensorSpec

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]

BINARY_DATA_OUTPUT = "binary_data_output"
"""Request parameter: whether outputs are to come as raw bytes. Absent: over REST as JSON, over gRPC raw."""


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


class Slot(Protocol):
    """A part of a shared memory region that holds a tensor, or is to hold one."""

    @property
    def region(self) -> str:
        """The name that the client registered the region under."""

    @property
    def offset(self) -> int:
        """Bytes from the region's beginning."""

    @property
    def size_bytes(self) -> int:
        """How long the part is."""

    def read(self) -> bytes | memoryview:
        """All of it, as a copy: whoever shares the memory may change it meanwhile."""

    def write(self, raw: bytes | memoryview) -> None:
        """Puts `raw` at its beginning; the caller has compared the sizes."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What a reply says of an output that was written to shared memory."""

    region: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the caller asks for, with its parameters (`classification`, `binary_data`, ...)."""

    name: str
    parameters: Parameters = field(default_factory=dict)
    slot: Slot | None = None
    """Where it is to be written; None: into the reply. The transport does that; the data plane has nothing to do with it."""


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
class ServingPlan:
    """How a model is served: what ModelConfig says beside the tensors."""

    latest: int | None = 1
    """So many of the newest versions; None: all, or those in `specific`."""
    specific: tuple[int, ...] = ()
    max_queue_delay_us: int | None = None
    """How long a request may wait for company; None: requests are not joined into batches."""
    preferred_batch_sizes: tuple[int, ...] = ()
    device: str = "cpu"
    """What it runs on: "cpu", "cuda", ..."""
    instances: int = 1
    """How many batches of it run at the same time."""


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
    plan: ServingPlan = ServingPlan()


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

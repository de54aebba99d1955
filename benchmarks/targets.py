"""What answers requests: the engine in this process, or any server of the Open Inference Protocol over gRPC or REST.

A target is asked the way a user asks it: `Model.predict` in process, `runtime.client` over the wire; so encoding and
decoding are part of what is measured. Any number of threads may call `infer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.settings import ADDRESS_OF, ANYONE, Access, BackendName, Setting, TargetName
from runtime import config
from runtime.bundle.bundle import Bundle
from runtime.bundle.locate import open_bundles
from runtime.client import connect
from runtime.client.rest import RestClient
from runtime.errors import BundleError, WrongUseError
from runtime.selection.rows import Rows, random_rows, rows_for
from runtime.serving.timing import TIMING
from runtime.tensors import Array, TensorSpec
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, Parameters, ServerDescription

# How our programs call themselves: edgeward-agent, edgeward-gateway.
_OURS = "edgeward-"


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


class Client(Protocol):
    """What the gRPC and the REST client have in common, as far as it is used here."""

    def infer(self, request: InferenceRequest, *, timeout_s: float | None = None) -> InferenceResponse: ...  # noqa: D102

    def model(self, model: str, version: str = "", *, timeout_s: float | None = None) -> ModelDescription: ...  # noqa: D102

    def server(self, *, timeout_s: float | None = None) -> ServerDescription: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


class RemoteTarget:
    """A model on a server; every request has a deadline."""

    def __init__(self, client: Client, name: TargetName, model: str, timeout_s: float) -> None:
        self._client = client
        self._name = name
        self._model = model
        self._timeout_s = timeout_s
        self._description: Description | None = None
        self._parameters: Parameters = {}

    def open(self) -> None:
        """Asks the server what it is and what the model looks like."""
        server = self._client.server()
        _check_program(self._name, server)
        # Others would refuse a parameter that they do not know, or pass it on to the model.
        self._parameters = {TIMING: True} if TIMING in server.extensions else {}
        model = self._client.model(self._model)
        version = model.versions[-1] if model.versions else ""
        name = f"{server.name} {server.version}".strip()
        said = {part: str(model.parameters.get(f"{part}_sha256", "")) for part in ("bundle", "variant")}
        digests = {part: digest for part, digest in said.items() if digest}
        self._description = Description(model.name, version, model.inputs, name, model.platform, digests)

    def infer(self, inputs: Mapping[str, Array]) -> Answer:
        """One request."""
        request = InferenceRequest(self._model, inputs, parameters=self._parameters)
        reply = self._client.infer(request, timeout_s=self._timeout_s)
        said = reply.parameters
        origin = Origin(str(said.get("served_by", "")), str(said.get("backend", "")))
        queue_ns, batch_ns, execute_ns = (int(said.get(name, -1)) for name in ("queue_ns", "batch_ns", "execute_ns"))
        return Answer(origin, reply.outputs, queue_ns, batch_ns, execute_ns)

    def describe(self) -> Description:
        """What the server said when it was opened."""
        assert self._description is not None
        return self._description

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def make_target(setting: Setting, timeout_s: float, access: Access = ANYONE) -> Target:
    """The target of a setting, not yet opened; `WrongUseError` where the setting does not hold together."""
    name = TargetName.parse(setting.target)
    wanted = BackendName.parse(setting.backend)
    if name.is_inproc:
        from benchmarks.inproc import inproc_target  # asking a server starts sooner without the engine

        return inproc_target(setting.model, wanted)
    if wanted != BackendName():
        raise WrongUseError(
            f"target {name.label!r} is a server, which chooses its backend itself; leave out --backend {setting.backend}"
        )
    make = connect if name.is_grpc else RestClient
    ca_file = access.ca_file if name.is_secure else None
    client: Client = make(name.address, api_key=access.api_key, timeout_s=timeout_s, ca_file=ca_file)
    bundle_here = _bundle_here(setting.model)
    return RemoteTarget(client, name, setting.model if bundle_here is None else bundle_here.name, timeout_s)


def rows_of(setting: Setting, inputs: Sequence[TensorSpec], seed: int) -> Rows:
    """What to ask with: the samples of the bundle where it is here, else seeded random rows of the right shape."""
    bundle = _bundle_here(setting.model)
    return random_rows(inputs, {}, seed) if bundle is None else rows_for(bundle, inputs, seed)


def _check_program(name: TargetName, server: ServerDescription) -> None:
    """`WrongUseError` when the default address of agents and gateways, which is one and the same, has the other one."""
    if name.label in ADDRESS_OF and server.name.startswith(_OURS) and server.name != _OURS + name.label:
        raise WrongUseError(
            f"target {name.label!r}: {server.name} answers at {name.address}, not {_OURS}{name.label}; start it on ports of its "
            f"own ({name.label} run --grpc-port 8011 --http-port 8010) and say where: {name.label}=grpc://127.0.0.1:8011"
        )


def newest(source: str) -> Bundle:
    """The newest version of a bundle by its path or the name that ships."""
    return open_bundles(source, config.home() / "bundles")[-1]


def _bundle_here(source: str) -> Bundle | None:
    """The bundle, when `source` is a path or ships with Edgeward; None when it is only a name that a server knows."""
    try:
        return newest(source)
    except BundleError:
        if Path(source).exists():
            raise
        return None

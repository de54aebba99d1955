"""The target that is a server of the Open Inference Protocol, over gRPC or REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from benchmarks.settings import ADDRESS_OF, TargetName
from benchmarks.target import Answer, Description, Origin
from runtime.errors import WrongUseError
from runtime.serving.timing import TIMING
from runtime.tensors import Array
from runtime.wire.values import InferenceRequest, InferenceResponse, ModelDescription, Parameters, ServerDescription

# How our programs call themselves: edgeward-agent, edgeward-gateway.
_OURS = "edgeward-"


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


def _check_program(name: TargetName, server: ServerDescription) -> None:
    """`WrongUseError` when the default address of agents and gateways, which is one and the same, has the other one."""
    if name.label in ADDRESS_OF and server.name.startswith(_OURS) and server.name != _OURS + name.label:
        raise WrongUseError(
            f"target {name.label!r}: {server.name} answers at {name.address}, not {_OURS}{name.label}; start it on ports of its "
            f"own ({name.label} run --grpc-port 8011 --http-port 8010) and say where: {name.label}=grpc://127.0.0.1:8011"
        )

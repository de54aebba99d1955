"""The blocking gRPC client."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from protos import inference
from runtime.client.address import DEFAULT_TIMEOUT_S, Protocol, parse_address
from runtime.client.channel import error_of, metadata_of, options_of, timeout_for
from runtime.client.failures import check_in_time, closed
from runtime.client.request import InputNames, Options, build_request, check_size, version_text
from runtime.client.spooled import Spooled, fetch_request, kept, result, submit_parameters
from runtime.client.trust import channel_credentials, check_ca
from runtime.errors import InvalidInputError, ModelNotFoundError, UnsupportedError
from runtime.wire.grpc_codec import decode_response, encode_request
from runtime.wire.grpc_descriptions import decode_index, decode_model, decode_server, encode_load
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Parameters,
    Privacy,
    RequestedOutput,
    Route,
    ServerDescription,
)


class Client:
    """One server over gRPC, blocking; any number of threads may share it. Every call has a timeout.

    gRPC's threads do not survive `os.fork()`: make the client after the fork (multiprocessing: start method "spawn").
    An address "grpcs://..." is encrypted; `ca_file` then says whose certificates are believed (None: the system's).
    Raises errors of `runtime.errors`: the server's own, `PeerUnreachableError`, `DeadlineExceededError`.
    """

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        ca_file: Path | None = None,
    ) -> None:
        self._address = parse_address(address, Protocol.GRPC)
        check_ca(self._address, ca_file)
        self._timeout_s = timeout_s
        self._metadata = metadata_of(api_key)
        self._input_names = InputNames()
        target, options = self._address.target, options_of(self._address)
        if self._address.is_secure:
            self._channel = grpc.secure_channel(target, channel_credentials(ca_file), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._calls = {
            name: self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for name, method in inference.METHODS.items()
            if not (method.client_streaming or method.server_streaming)
        }

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | Any,
        *,
        version: str | int = "",
        outputs: Sequence[str | RequestedOutput] = (),
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
        route: Route | str | None = None,
        privacy: Privacy | str | None = None,
        id: str = "",  # noqa: A002  (the protocol's name)
    ) -> InferenceResponse:
        """One inference: arrays by input name, or one array for a model with one input (its name is asked once).

        `version`: of the model, as the manifest has it; "" is the newest that serves. `outputs`: names of those that are
        wanted (all). `timeout_s`: how long this call may take (the client's own); gRPC hands it on as the request's deadline.
        `route`: "auto", "edge" or "cloud", who is to answer. `privacy`: "any", or "local_only", which never leaves the
        device; an agent heeds both. `parameters`: further ones of the protocol, of the model or the server. `id` comes back
        in the answer.

        The answer's `outputs` are arrays by name; its `parameters` say who answered and why, of our own servers
        `served_by` ("edge" or "cloud"), `backend`, `reason` and, within a release, `release` ("stable" or "candidate").

        Raises `InvalidInputError` (names, dtypes or shapes that do not fit), `ModelNotFoundError`, `OverloadedError`
        (again later), `DeadlineExceededError`, `PeerUnreachableError`, and what else of `runtime.errors` a server says.

        >>> answer = client.predict("digits", image, outputs=["probabilities"], timeout_s=0.5)
        >>> answer.outputs["probabilities"].argmax(), answer.parameters["served_by"]
        """
        version = version_text(version)
        options = Options(version, outputs, parameters, route, privacy, id)
        if isinstance(inputs, Mapping):
            return self.infer(build_request(model, inputs, options), timeout_s=timeout_s)
        name = self._input_names.get(model, version)
        if name is None:
            metadata = self._metadata_of(model, version, timeout_s)
            name = self._input_names.learn(model, version, decode_model(metadata).inputs)
        try:
            return self.infer(build_request(model, {name: inputs}, options), timeout_s=timeout_s)
        except InvalidInputError:
            self._input_names.forget(model, version)
            raise

    def infer(self, request: InferenceRequest, *, timeout_s: float | None = None) -> InferenceResponse:
        """The answer to a request made by hand, no later than its deadline and the timeout."""
        check_size(request.inputs)
        message = encode_request(request)
        left_s = timeout_for(timeout_s, self._timeout_s, request.deadline)
        reply: inference.ModelInferResponse = self._call("ModelInfer", message, left_s)
        return decode_response(reply)

    def submit(
        self,
        model: str,
        inputs: Mapping[str, Any] | Any,
        *,
        key: str | None = None,
        version: str | int = "",
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
        route: Route | str | None = None,
        privacy: Privacy | str | None = None,
    ) -> Spooled:
        """Has an agent keep the request until it can be answered; when this returns, it is on the agent's disk.

        After an error it is not known to be kept: sent again with the same `key` it is kept once. See `fetch`.

        >>> kept = client.submit("digits", image)
        >>> answer = client.fetch(kept)  # None while there is none: ask again later, on any connection to this agent
        """
        said = submit_parameters(parameters, key)
        return kept(
            self.predict(
                model, inputs, version=version, parameters=said, timeout_s=timeout_s, route=route, privacy=privacy
            )
        )

    def fetch(self, spooled: Spooled, *, timeout_s: float | None = None) -> InferenceResponse | None:
        """The result of a submitted request; None while there is none. Raises the error that it ended in."""
        return result(self.infer(fetch_request(spooled), timeout_s=timeout_s))

    def is_live(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server's process works; raises where there is no server at all."""
        reply: inference.ServerLiveResponse = self._call("ServerLive", inference.ServerLiveRequest(), timeout_s)
        return reply.live

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server takes requests; raises where there is no server at all."""
        reply: inference.ServerReadyResponse = self._call("ServerReady", inference.ServerReadyRequest(), timeout_s)
        return reply.ready

    def is_model_ready(self, model: str, version: str | int = "", *, timeout_s: float | None = None) -> bool:
        """Whether the model can be asked; False for one that the server does not know."""
        message = inference.ModelReadyRequest(name=model, version=version_text(version))
        try:
            reply: inference.ModelReadyResponse = self._call("ModelReady", message, timeout_s)
        except ModelNotFoundError:
            return False
        return reply.ready

    def server(self, *, timeout_s: float | None = None) -> ServerDescription:
        """What the server says of itself."""
        return decode_server(self._call("ServerMetadata", inference.ServerMetadataRequest(), timeout_s))

    def model(self, model: str, version: str | int = "", *, timeout_s: float | None = None) -> ModelDescription:
        """The model's signature; a server without ModelConfig leaves the batch limit 0 and the parameters empty."""
        metadata = self._metadata_of(model, version, timeout_s)
        try:
            config = self._call(
                "ModelConfig", inference.ModelConfigRequest(name=model, version=version_text(version)), timeout_s
            )
        except UnsupportedError:
            config = None
        return decode_model(metadata, config)

    def index(self, *, only_ready: bool = False, timeout_s: float | None = None) -> list[IndexEntry]:
        """Every model version that the server knows, and its state."""
        return decode_index(
            self._call("RepositoryIndex", inference.RepositoryIndexRequest(ready=only_ready), timeout_s)
        )

    def load(
        self, model: str, parameters: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Loads or reloads a model of the server's repository; give the time that loading takes."""
        self._call("RepositoryModelLoad", encode_load(model, parameters or {}), timeout_s)

    def unload(self, model: str, *, timeout_s: float | None = None) -> None:
        """Unloads every version of the model."""
        self._call("RepositoryModelUnload", inference.RepositoryModelUnloadRequest(model_name=model), timeout_s)

    def close(self) -> None:
        """Closes the connection; calls still under way end with `CancelledError`. May be called twice."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({str(self._address)!r})"

    def _metadata_of(self, model: str, version: str | int, timeout_s: float | None) -> inference.ModelMetadataResponse:
        message = inference.ModelMetadataRequest(name=model, version=version_text(version))
        reply: inference.ModelMetadataResponse = self._call("ModelMetadata", message, timeout_s)
        return reply

    def _call(self, method: str, message: Message, timeout_s: float | None) -> Any:
        began = time.monotonic()
        left_s = timeout_for(timeout_s, self._timeout_s)
        try:
            reply = self._calls[method](message, timeout=left_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(self._address, error.code(), error.details(), error.trailing_metadata(), left_s) from error
        except ValueError as error:  # gRPC's way to say that the channel is closed
            raise closed(self._address) from error
        check_in_time(self._address, left_s, began)
        return reply

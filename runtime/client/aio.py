"""The gRPC client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from protos import inference
from runtime.client.address import DEFAULT_TIMEOUT_S, Protocol, parse_address
from runtime.client.channel import error_of, metadata_of, options_of, timeout_for
from runtime.client.failures import check_in_time, closed
from runtime.client.request import InputNames, Options, build_request, check_size, version_text
from runtime.client.spooled import Spooled, fetch_request, kept, result, submit_parameters
from runtime.client.trust import channel_credentials, check_ca
from runtime.errors import CancelledError, InvalidInputError, ModelNotFoundError, UnsupportedError
from runtime.telemetry.context import TRACEPARENT, traceparent
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


class AsyncClient:
    """One server over gRPC, for the event loop that runs when it is made; no other thread. Every call has a timeout.

    Any number of tasks may share it; cancelling one withdraws its request from the server. A channel does not survive
    `os.fork()`. "grpcs://..." and `ca_file`: see `Client`.
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
            self._channel = grpc.aio.secure_channel(target, channel_credentials(ca_file), options)
        else:
            self._channel = grpc.aio.insecure_channel(target, options)
        self._calls = {
            name: self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for name, method in inference.METHODS.items()
            if not (method.client_streaming or method.server_streaming)
        }

    async def predict(
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
        """One inference, as `Client.predict` says: its parameters, its answer and its errors are the same."""
        version = version_text(version)
        options = Options(version, outputs, parameters, route, privacy, id)
        if isinstance(inputs, Mapping):
            return await self.infer(build_request(model, inputs, options), timeout_s=timeout_s)
        name = self._input_names.get(model, version)
        if name is None:
            metadata = await self._metadata_of(model, version, timeout_s)
            name = self._input_names.learn(model, version, decode_model(metadata).inputs)
        try:
            return await self.infer(build_request(model, {name: inputs}, options), timeout_s=timeout_s)
        except InvalidInputError:
            self._input_names.forget(model, version)
            raise

    async def infer(self, request: InferenceRequest, *, timeout_s: float | None = None) -> InferenceResponse:
        """The answer to a request made by hand, no later than its deadline and the timeout."""
        check_size(request.inputs)
        message = encode_request(request)
        left_s = timeout_for(timeout_s, self._timeout_s, request.deadline)
        reply: inference.ModelInferResponse = await self._call("ModelInfer", message, left_s)
        return decode_response(reply)

    async def submit(
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
        """
        said = submit_parameters(parameters, key)
        return kept(
            await self.predict(
                model, inputs, version=version, parameters=said, timeout_s=timeout_s, route=route, privacy=privacy
            )
        )

    async def fetch(self, spooled: Spooled, *, timeout_s: float | None = None) -> InferenceResponse | None:
        """The result of a submitted request; None while there is none. Raises the error that it ended in."""
        return result(await self.infer(fetch_request(spooled), timeout_s=timeout_s))

    async def is_live(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server's process works; raises where there is no server at all."""
        reply: inference.ServerLiveResponse = await self._call("ServerLive", inference.ServerLiveRequest(), timeout_s)
        return reply.live

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server takes requests; raises where there is no server at all."""
        reply: inference.ServerReadyResponse = await self._call(
            "ServerReady", inference.ServerReadyRequest(), timeout_s
        )
        return reply.ready

    async def is_model_ready(self, model: str, version: str | int = "", *, timeout_s: float | None = None) -> bool:
        """Whether the model can be asked; False for one that the server does not know."""
        message = inference.ModelReadyRequest(name=model, version=version_text(version))
        try:
            reply: inference.ModelReadyResponse = await self._call("ModelReady", message, timeout_s)
        except ModelNotFoundError:
            return False
        return reply.ready

    async def server(self, *, timeout_s: float | None = None) -> ServerDescription:
        """What the server says of itself."""
        return decode_server(await self._call("ServerMetadata", inference.ServerMetadataRequest(), timeout_s))

    async def model(self, model: str, version: str | int = "", *, timeout_s: float | None = None) -> ModelDescription:
        """The model's signature; a server without ModelConfig leaves the batch limit 0 and the parameters empty."""
        metadata = await self._metadata_of(model, version, timeout_s)
        try:
            config = await self._call(
                "ModelConfig", inference.ModelConfigRequest(name=model, version=version_text(version)), timeout_s
            )
        except UnsupportedError:
            config = None
        return decode_model(metadata, config)

    async def index(self, *, only_ready: bool = False, timeout_s: float | None = None) -> list[IndexEntry]:
        """Every model version that the server knows, and its state."""
        return decode_index(
            await self._call("RepositoryIndex", inference.RepositoryIndexRequest(ready=only_ready), timeout_s)
        )

    async def load(
        self, model: str, parameters: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Loads or reloads a model of the server's repository; give the time that loading takes."""
        await self._call("RepositoryModelLoad", encode_load(model, parameters or {}), timeout_s)

    async def unload(self, model: str, *, timeout_s: float | None = None) -> None:
        """Unloads every version of the model."""
        await self._call("RepositoryModelUnload", inference.RepositoryModelUnloadRequest(model_name=model), timeout_s)

    async def close(self) -> None:
        """Closes the connection; calls still under way end with `CancelledError`. May be called twice."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._address)!r})"

    async def _metadata_of(
        self, model: str, version: str | int, timeout_s: float | None
    ) -> inference.ModelMetadataResponse:
        message = inference.ModelMetadataRequest(name=model, version=version_text(version))
        reply: inference.ModelMetadataResponse = await self._call("ModelMetadata", message, timeout_s)
        return reply

    async def _call(self, method: str, message: Message, timeout_s: float | None) -> Any:
        began = time.monotonic()
        left_s = timeout_for(timeout_s, self._timeout_s)
        parent = traceparent.get()
        metadata = self._metadata if parent is None else (*self._metadata, (TRACEPARENT, parent))
        try:
            reply = await self._calls[method](message, timeout=left_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(self._address, error.code(), error.details(), error.trailing_metadata(), left_s) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The channel was closed under the call; nobody cancelled the task.
            raise CancelledError(f"the client of {self._address} was closed during the call") from None
        except grpc.aio.UsageError as error:  # the channel is closed
            raise closed(self._address) from error
        check_in_time(self._address, left_s, began)
        return reply

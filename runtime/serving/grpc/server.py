"""The Open Inference Protocol over gRPC (grpcio): a thin translation onto an `InferenceService`.

One table, RPC → answer, makes the whole service; what the protocol has beside it is answered UNIMPLEMENTED with its reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import grpc
from google.protobuf.message import Message

from protos import health, inference
from runtime.errors import MachineError, ModelNotReadyError
from runtime.serving.asking import answer_of
from runtime.serving.bearer import Authorize
from runtime.serving.controls import Controls
from runtime.serving.deadlines import with_timeout
from runtime.serving.grpc.calls import (
    CALL_IS_OVER,
    REFUSAL_DELAY_S,
    Answer,
    Context,
    authorize_call,
    generic_handler,
    refuse,
    unary_handler,
)
from runtime.serving.grpc.controls import ControlRpcs
from runtime.serving.grpc.health import HealthRpcs
from runtime.serving.grpc.receiving import MESSAGE_LIMIT_S, Receiving
from runtime.serving.grpc.replies import GrpcReplies
from runtime.serving.grpc.stream import stream_infer_handler
from runtime.serving.limits import DEFAULT_MAX_MESSAGE_BYTES
from runtime.serving.load_parameters import check_unload
from runtime.serving.names import check_name
from runtime.serving.service import InferenceService
from runtime.serving.sockets import Endpoint, listen, port_in_use
from runtime.serving.tls import ServerTls
from runtime.wire.grpc_descriptions import decode_load_parameters, encode_index, encode_model, encode_server
from runtime.wire.grpc_repeats import RequestDecoder
from runtime.wire.model_config import encode_config
from runtime.wire.statistics import encode_statistics

# Calls open on one connection, the native front's number: a client that keeps to HTTP/2 waits with more. One that opens and resets
# them at once (CVE-2023-44487) is refused on its own connection, and so is who shares it (ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED).
MAX_STREAMS = 1024

# Calls of all connections that wait to be taken from gRPC's core: above the first number it turns calls away at random, above the
# second all of them, whoever sends them (CANCELLED). At its own 1,000 and 3,000 one such client took others' calls with it, and one
# with 5,000 good calls at once lost 28 % of them; these leave room for four connections with all their calls at once.
MAX_PENDING, MAX_PENDING_AT_ALL = 4 * MAX_STREAMS, 6 * MAX_STREAMS

# A peer that vanished without a word is noticed, and its work dropped, after the sum of both.
KEEPALIVE_TIME_MS, KEEPALIVE_TIMEOUT_MS = 60_000, 20_000

# How long a server that closes lets calls arrive, see REFUSAL_DELAY_S.
QUIET_S = 0.05

# Probes ask these without a key.
OPEN_RPCS = frozenset({"ServerLive", "ServerReady"})


InferBytes = Callable[[bytes, float | None], Awaitable[bytes]]
"""Answers the bytes of a ModelInferRequest, which nobody waits for after the deadline; raises errors of `runtime.errors`."""


class GrpcServer:
    """One gRPC server over one service: `bind`, then `start`, then `stop`. Lives on one event loop."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        *,
        authorize: Authorize | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        tls: ServerTls | None = None,
        shares_port: bool = False,
        reflects: bool = False,
        message_limit_s: float = MESSAGE_LIMIT_S,
    ) -> None:
        self._shares_port = shares_port
        self._closing = asyncio.Event()
        receiving = Receiving(message_limit_s)
        self._tls = tls
        self._server = grpc.aio.server(options=_options(max_message_bytes, shares_port))
        rpcs = InferenceRpcs(service, controls, authorize, self._closing, receiving)
        self._server.add_generic_rpc_handlers(
            (
                generic_handler(inference.SERVICE, rpcs.handlers()),
                generic_handler(health.SERVICE, HealthRpcs(service, self._closing, receiving.read).handlers()),
            )
        )
        if reflects:
            from runtime.serving.grpc.reflection import RPC, SERVICES, reflection_handler

            told = {RPC: reflection_handler(authorize, self._closing)}
            self._server.add_generic_rpc_handlers(tuple(generic_handler(name, told) for name in SERVICES))

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Takes the address and says it with its real port; `PortInUseError` when somebody listens there."""
        if endpoint.port:
            # Asked of the system first: it says why not, where gRPC only says that it failed, and writes to stderr.
            listen(endpoint, "gRPC", is_shared=self._shares_port).close()
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(str(endpoint))
            else:
                port = self._server.add_secure_port(str(endpoint), self._tls.grpc_credentials())
        except RuntimeError as error:
            raise port_in_use(endpoint, "gRPC") from error
        return Endpoint(endpoint.host, port)

    def bind_unix(self, path: str) -> None:
        """Takes a Unix socket; `MachineError` when that cannot be."""
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise MachineError(f"gRPC cannot listen on the Unix socket {path}: {error}") from error

    async def start(self) -> None:
        """Begins to answer."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, answers those accepted, and cancels what `grace_s` was too short for."""
        self._closing.set()
        if grace_s > 0:
            await asyncio.sleep(min(QUIET_S, grace_s))
        await self._server.stop(grace_s)

    async def cut_off(self) -> None:
        """Cancels the calls under way at once; also while `stop` waits for them."""
        self._closing.set()
        await self._server.stop(None)


class InferenceRpcs:
    """The RPCs of inference.GRPCInferenceService over one service."""

    def __init__(
        self,
        service: InferenceService,
        controls: Controls,
        authorize: Authorize | None,
        closing: asyncio.Event,
        receiving: Receiving,
    ) -> None:
        self._receiving = receiving
        self._service = service
        self._controls = controls
        self._authorize = authorize
        self._closing = closing

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """A handler for every RPC of the service."""
        answers: Mapping[str, Answer] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_model_load,
            "RepositoryModelUnload": self.repository_model_unload,
            **ControlRpcs(self._controls).answers(),
        }
        handlers = {
            rpc: unary_handler(
                inference.METHODS[rpc].request,
                answer,
                None if rpc in OPEN_RPCS else self._authorize,
                self._closing,
                self._receiving.read,
            )
            for rpc, answer in answers.items()
        }
        handlers["ModelInfer"] = self.model_infer_handler()
        handlers["ModelStreamInfer"] = stream_infer_handler(
            self._service, self._controls, self._authorize, self._closing
        )
        return handlers

    def model_infer(self) -> InferBytes:
        """ModelInfer from bytes to bytes: the hot path, so one plain function with everything it needs at hand."""
        ask, load = self._controls.asking(self._service), self._controls.load
        decode, encode = RequestDecoder(self._controls.memory), GrpcReplies()

        async def model_infer(raw: bytes, deadline: float | None) -> bytes:
            request = decode(raw, deadline)
            check_name(request.model, request.version)
            if request.parameters:
                request = with_timeout(request)
            load.in_flight += 1
            try:
                response = await answer_of(ask, request)
                reply = b"".join(encode(request, response))
            finally:
                load.in_flight -= 1
            load.answered += 1
            return reply

        return model_infer

    def model_infer_handler(self) -> grpc.RpcMethodHandler[bytes, bytes]:
        """ModelInfer for grpcio."""
        infer, authorize, monotonic, closing = self.model_infer(), self._authorize, time.monotonic, self._closing
        controls, is_traced = self._controls, self._controls.tracer is not None
        read = self._receiving.read

        async def handle(_: AsyncIterator[bytes], context: Context) -> bytes:
            try:
                if closing.is_set():
                    await asyncio.sleep(REFUSAL_DELAY_S)
                    raise closing_error()
                if authorize is not None:
                    authorize_call(authorize, context)
                if is_traced:
                    controls.follow_metadata(context.invocation_metadata())
                raw = await read(context)
                remaining_s = context.time_remaining()
                return await infer(raw, None if remaining_s is None else monotonic() + remaining_s)
            except Exception as error:
                if isinstance(error, CALL_IS_OVER) and context.done():
                    raise  # it ended before its message came: no inference was asked for
                controls.load.note_error(error)
                await refuse(context, error)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def server_live(self, _: inference.ServerLiveRequest) -> Message:
        """Whether the process works at all."""
        return inference.ServerLiveResponse(live=self._service.is_live())

    async def server_ready(self, _: inference.ServerReadyRequest) -> Message:
        """Whether new requests are welcome."""
        return inference.ServerReadyResponse(ready=self._service.is_ready() and not self._closing.is_set())

    async def server_metadata(self, _: inference.ServerMetadataRequest) -> Message:
        """Name, version and extensions."""
        return encode_server(await self._controls.describe(self._service.describe_server()))

    async def model_ready(self, message: inference.ModelReadyRequest) -> Message:
        """Whether ModelInfer would be answered."""
        check_name(message.name, message.version)
        return inference.ModelReadyResponse(ready=await self._service.is_model_ready(message.name, message.version))

    async def model_metadata(self, message: inference.ModelMetadataRequest) -> Message:
        """Signature and versions of a model."""
        check_name(message.name, message.version)
        return encode_model(await self._service.describe_model(message.name, message.version))

    async def model_config(self, message: inference.ModelConfigRequest) -> Message:
        """The same as Triton's ModelConfig."""
        check_name(message.name, message.version)
        return encode_config(await self._service.describe_model(message.name, message.version))

    async def model_statistics(self, message: inference.ModelStatisticsRequest) -> Message:
        """What a model has done since it was loaded; without a name, every model."""
        if message.name:
            check_name(message.name, message.version)
        return encode_statistics(self._service.statistics(message.name, message.version))

    async def repository_index(self, message: inference.RepositoryIndexRequest) -> Message:
        """Every model version known here."""
        return encode_index(self._service.index(), only_ready=message.ready)

    async def repository_model_load(self, message: inference.RepositoryModelLoadRequest) -> Message:
        """Loads or reloads a model."""
        check_name(message.model_name)
        await self._service.load(message.model_name, decode_load_parameters(message))
        return inference.RepositoryModelLoadResponse()

    async def repository_model_unload(self, message: inference.RepositoryModelUnloadRequest) -> Message:
        """Unloads every version of a model."""
        check_name(message.model_name)
        check_unload(decode_load_parameters(message))
        await self._service.unload(message.model_name)
        return inference.RepositoryModelUnloadResponse()


def closing_error() -> ModelNotReadyError:
    """For a call that came while the server was closing."""
    return ModelNotReadyError("this server is shutting down and took no notice of the request; retry at another one")


def _options(max_message_bytes: int, shares_port: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),  # also of what a compressed message unfolds to
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # It counts calls that are over until they are forgotten here too, and so refuses clients that keep to the limit.
        ("grpc.http.overload_protection", 0),
        ("grpc.server.max_pending_requests", MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_AT_ALL),
        # A second server on the port must fail, not share it; only workers of one server do.
        ("grpc.so_reuseport", int(shares_port)),
        # Clients may ping idle connections every 10 s to keep a NAT open; gRPC's default calls that an attack below 5 min.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ]

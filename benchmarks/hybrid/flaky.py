"""A gateway that answers UNAVAILABLE to every second inference, and passes everything else on to the real one.

It says that it is ready, so that breakers see a link that is well: what it costs is the retry budget's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

import grpc
import grpc.aio

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
MAX_MESSAGE_BYTES: Final = 64 << 20
FAIL_EVERY: Final = 2


class FlakyGateway:
    """`async with FlakyGateway(target) as flaky`: connect to `flaky.port`. `failed` counts what it refused."""

    def __init__(self, target: str) -> None:
        self.port = 0
        self.failed = 0
        self._asked = 0
        self._channel = grpc.aio.insecure_channel(target)
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])

    async def __aenter__(self) -> Self:
        self._server.add_generic_rpc_handlers((_Everything(self._handle),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)
        await self._channel.close()

    async def _handle(self, method: str, message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if method == INFER:
            self._asked += 1
            if self._asked % FAIL_EVERY == 0:
                self.failed += 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the benchmark's gateway fails every second inference")
        try:
            ask: Any = self._channel.unary_unary(method)
            answer: bytes = await ask(message, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return answer


class _Everything(grpc.GenericRpcHandler):
    """Every unary method, as bytes."""

    def __init__(
        self, handle: Callable[[str, bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]
    ) -> None:
        self._handle = handle

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """A handler for whatever is called."""

        async def answer(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return await self._handle(details.method, message, context)

        return grpc.unary_unary_rpc_method_handler(answer)

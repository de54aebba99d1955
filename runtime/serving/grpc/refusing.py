"""A gRPC server that takes no calls: every one is told that the server is shutting down, whatever it asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from runtime.serving.grpc.calls import REFUSAL_DELAY_S, Context, refuse
from runtime.serving.grpc.server import closing_error


async def start_refusing(path: str) -> grpc.aio.Server:
    """Listens on the Unix socket `path` from now on; whoever calls stops it."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Everything(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    return server


class _Everything(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """On the wire a unary call is a stream of one message, so that one handler is for all."""
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(_: AsyncIterator[bytes], context: Context) -> None:
    await asyncio.sleep(REFUSAL_DELAY_S)  # who waits for an answer sends nothing more meanwhile
    await refuse(context, closing_error())

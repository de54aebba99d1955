"""Baseline: a bare grpc.aio server whose one handler sends back the bytes it got. `python -m benchmarks.serving.echo_grpc PORT`"""

from __future__ import annotations

import asyncio
import sys

import grpc

from benchmarks.serving.exchange import INFER_PATH


async def main(port: int) -> None:
    """Serves until it is ended."""

    async def echo(raw: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return raw

    service, _, rpc = INFER_PATH.strip("/").partition("/")
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {rpc: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

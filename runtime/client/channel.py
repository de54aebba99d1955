"""What both gRPC clients share: channel options, metadata, and gRPC's failures as errors of ours. Imports grpc."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import grpc

from runtime.client.address import Address, bearer
from runtime.client.failures import said_by, time_left, too_late, unreachable
from runtime.client.request import MAX_MESSAGE_BYTES
from runtime.errors import EdgewardError
from runtime.wire.status import ERROR_HINT, GrpcCode, error_of_grpc

# Added to the tensors' cap, for names and parameters around them.
_ENVELOPE_BYTES = 1 * 2**20


def options_of(address: Address) -> list[tuple[str, int]]:
    """How a channel to `address` behaves."""
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + _ENVELOPE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + _ENVELOPE_BYTES),
        # 256 KiB by default: a larger request that a connection never took is not sent again on the next.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES + _ENVELOPE_BYTES),
        # A cut network (sleep, roaming) shows within 70 s instead of the kernel's quarter hour; servers allow no more.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # By default a client waits up to two minutes before it sees that a restarted server is back.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Connections belong to one client: closing it closes them, and a benchmark's eight are eight.
        ("grpc.use_local_subchannel_pool", 1),
        # A corporate proxy knows no way to this machine's own ports.
        ("grpc.enable_http_proxy", 0 if address.is_local else 1),
    ]


def metadata_of(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with every call."""
    return () if api_key is None else (("authorization", bearer(api_key)),)


def timeout_for(timeout_s: float | None, default_s: float, deadline: float | None = None) -> float:
    """The call's timeout: as asked, else the client's; never beyond the request's deadline, never none."""
    return time_left(default_s if timeout_s is None else timeout_s, deadline, time.monotonic())


def error_of(
    address: Address,
    code: grpc.StatusCode,
    details: str | None,
    trailing: Iterable[Any] | None,
    timeout_s: float,
) -> EdgewardError:
    """The error of a call that failed, whoever said so: the server or gRPC on this side."""
    hints = {str(key): value for key, value in trailing or () if isinstance(value, str)}
    text = details or code.name
    if ERROR_HINT not in hints:
        if code.name == GrpcCode.DEADLINE_EXCEEDED:
            return too_late(address, timeout_s)
        if code.name == GrpcCode.UNAVAILABLE:
            return unreachable(address, _shortly(text))
    return said_by(address, error_of_grpc(code.name, text, hints))


def _shortly(text: str) -> str:
    """Why there is no connection, without gRPC's way to it: of "failed to connect to all addresses; last error: …" the end."""
    if "http1.x server" in text:
        return "what listens there speaks HTTP/1 and not gRPC, as on a port of REST"
    return text.rpartition("Failed to connect to remote host: ")[2] or text

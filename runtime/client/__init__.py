"""Clients of any server that speaks the Open Inference Protocol.

    from runtime.client import connect
    with connect("127.0.0.1:8001") as client:
        scores = client.predict("digits", {"image": image}).outputs["scores"]

`runtime.client.sync.Client` and `runtime.client.aio.AsyncClient` speak gRPC, `runtime.client.rest.RestClient` HTTP. All
raise `runtime.errors` and no others. Importing this costs nothing: grpc comes with the first client.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runtime.client.address import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from runtime.client.sync import Client

__all__ = ["DEFAULT_TIMEOUT_S", "connect"]


def connect(
    address: str, *, api_key: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S, ca_file: Path | None = None
) -> Client:
    """A gRPC client of the server at "host:port", "grpc://host:port" or "unix:/path"; may be shared among threads.

    "grpcs://host:port" is encrypted: the certificate has to be signed by `ca_file`, or without one by whom the operating
    system believes. Nothing is sent yet: an unreachable server shows at the first call, as `PeerUnreachableError`.
    """
    from runtime.client.sync import Client  # importing edgeward must not import grpc

    return Client(address, api_key=api_key, timeout_s=timeout_s, ca_file=ca_file)

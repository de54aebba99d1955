"""JSON documents from routes of a server's own, such as its status, and to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.client.address import Protocol, bearer, parse_address
from runtime.client.connections import Connections
from runtime.client.failures import said_by
from runtime.client.trust import pinned_context
from runtime.errors import PeerFailedError
from runtime.wire.rest_body import Body
from runtime.wire.status import error_of_http


def fetch_document(
    address: str, path: str, *, api_key: str | None = None, timeout_s: float = 5.0, tls_cert: Path | None = None
) -> dict[str, Any]:
    """The object at `path` of the HTTP server at "host:port"; its errors, `PeerUnreachableError` where there is none.

    `tls_cert`: the certificate of the server, where it speaks TLS; that one is believed and no other.
    """
    return exchange_document(address, "GET", path, api_key=api_key, timeout_s=timeout_s, tls_cert=tls_cert)


def exchange_document(
    address: str,
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    api_key: str | None = None,
    timeout_s: float = 5.0,
    tls_cert: Path | None = None,
) -> dict[str, Any]:
    """The object that a server answers with to any method, sent `body` as JSON; errors as `fetch_document`."""
    context = None
    if tls_cert is not None:
        address, context = f"https://{address}", pinned_context(tls_cert)
    server = parse_address(address, Protocol.HTTP)
    connections = Connections(server, {} if api_key is None else {"Authorization": bearer(api_key)}, context)
    sent = None if body is None else Body((json.dumps(body).encode(),))
    try:
        reply = connections.exchange(method, path, sent, timeout_s)
    finally:
        connections.close()
    try:
        document = json.loads(reply.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"error": f"HTTP {reply.status}, and no JSON object"}
    if reply.status >= 400:
        raise said_by(server, error_of_http(reply.status, str(document.get("error", reply.status)), reply.headers))
    if "error" in document:
        raise PeerFailedError(f"{server}: {document['error']}; see whether another program listens there")
    return document

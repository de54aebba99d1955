"""A gateway's admin API for our own commands: JSON in, JSON out, errors of `runtime.errors` as the gateway raised them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from runtime.client.address import Protocol, bearer, parse_address
from runtime.client.connections import Connections
from runtime.client.failures import said_by, with_next_step
from runtime.errors import PeerFailedError, PeerUnreachableError, WrongUseError
from runtime.wire.rest_body import Body
from runtime.wire.status import error_of_http

TIMEOUT_S: Final = 30.0
# Loading and warming a model on a slow machine, after a large upload.
LONG_TIMEOUT_S: Final = 600.0
_CHUNK_BYTES: Final = 1 << 20


class AdminClient:
    """Talks to one gateway. Threads may share it. Without a key it may only read, and only on the gateway's machine."""

    def __init__(self, address: str, key: str | None) -> None:
        self.address = parse_address(address, Protocol.HTTP)
        self._connections = Connections(self.address, {} if key is None else {"Authorization": bearer(key)})

    def get(self, path: str, query: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """What a GET route answers."""
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path, None, timeout_s)

    def post(
        self, path: str, document: Mapping[str, Any] | None = None, timeout_s: float = LONG_TIMEOUT_S
    ) -> dict[str, Any]:
        """What a POST route answers to `document`."""
        return self._ask("POST", path, Body((json.dumps(document or {}).encode(),)), timeout_s)

    def upload(self, path: str, file: Path, timeout_s: float = LONG_TIMEOUT_S) -> dict[str, Any]:
        """Sends the bytes of `file` without holding them; what the POST route answers."""
        with _chunks(file) as chunks:
            return self._ask("POST", path, Body(chunks, header_length=0), timeout_s)

    def close(self) -> None:
        """Closes the connections."""
        self._connections.close()

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: Body | None, timeout_s: float) -> dict[str, Any]:
        try:
            reply = self._connections.exchange(method, path, body, timeout_s)
        except PeerUnreachableError as error:
            raise with_next_step(
                error, "start it with `edgeward gateway run MODEL`, or give the --admin-port of the one that runs"
            ) from error
        try:
            document = json.loads(reply.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            document = {"error": f"HTTP {reply.status} and no JSON object; is this the admin port of a gateway?"}
        if reply.status >= 400:
            said = str(document.get("error", reply.status))
            raise said_by(self.address, error_of_http(reply.status, said, reply.headers))
        if "error" in document:
            raise PeerFailedError(f"{self.address}: {document['error']}")
        return document


@contextmanager
def _chunks(file: Path) -> Iterator[tuple[memoryview, ...]]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(file.open("rb"))
            mapped = stack.enter_context(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # ValueError: it is empty
            raise WrongUseError(f"{file} cannot be read: {error}; check the path") from error
        whole = stack.enter_context(memoryview(mapped))
        yield tuple(stack.enter_context(whole[at : at + _CHUNK_BYTES]) for at in range(0, len(whole), _CHUNK_BYTES))

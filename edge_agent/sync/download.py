"""The gateway's index, and a bundle fetched in as many pieces as the link breaks it into. Blocking."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.sync.interruption import Interruption
from edge_agent.sync.record import Offer
from runtime.client.address import Address, Protocol, bearer, parse_address
from runtime.client.failures import unreachable
from runtime.client.trust import tls_context
from runtime.client.unix_http import connection_to
from runtime.errors import (
    BundleError,
    CallerError,
    OverloadedError,
    PayloadTooLargeError,
    PeerFailedError,
    PeerUnreachableError,
    StorageError,
    UnauthenticatedError,
)
from runtime.row_files.writer import sync_file
from runtime.wire.status import error_of_http

log = logging.getLogger(__name__)

INDEX_PATH: Final = "/edgeward/bundles"
OUTCOMES_PATH: Final = "/edgeward/bundles/outcomes"
CHUNK_BYTES: Final = 1 << 18
# Of one read: a link that says nothing for so long is taken for broken, and begun again where it was.
SILENCE_S: Final = 20.0
# Of making a connection, which cannot be cut short: an agent that is to stop waits for it.
CONNECT_S: Final = 5.0
# Pieces without a byte in between; a link that brings something each time may break as often as it likes.
MAX_EMPTY_TRIES: Final = 5
MAX_OFFERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Source:
    """A gateway's HTTP port."""

    address: str
    """"host:port", or "https://host:port" where it speaks TLS."""
    api_key: str | None = None
    ca_file: Path | None = None
    """Who signs its certificate; None: whom the operating system believes."""

    @property
    def parsed(self) -> Address:
        """The address, taken apart."""
        return parse_address(self.address, Protocol.HTTP)

    def context(self) -> ssl.SSLContext | None:
        """Whom to believe; None for plain HTTP."""
        return tls_context(self.ca_file) if self.parsed.is_secure else None


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = Field(min_length=1, max_length=255)
    version: int = Field(ge=0)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    bundles: tuple[_Entry, ...] = Field(max_length=MAX_OFFERS)


def fetch_index(
    source: Source, interruption: Interruption, device: str = "", models: Sequence[str] = ()
) -> list[Offer]:
    """What the gateway offers to `device`, which keeps `models` current: some of its versions go to devices in waves.

    `PeerUnreachableError`, or `PeerFailedError` where that is no index.
    """
    address = source.parsed
    query = "?" + urlencode([("device", device), *(("model", name) for name in models)]) if device else ""
    with _asked(source, INDEX_PATH + query, {}, interruption) as reply:
        body = reply.read()
        if reply.status >= 400:
            text = body[:2000].decode("utf-8", "replace")
            raise error_of_http(reply.status, f"{address}: {text}", dict(reply.getheaders()))
    try:
        index = _Index.model_validate_json(body)
    except ValidationError as error:
        raise PeerFailedError(f"{source.address}: its index of bundles does not hold together: {error}") from error
    return [Offer(**entry.model_dump()) for entry in index.bundles]


def tell_outcomes(
    source: Source, interruption: Interruption, device: str, outcomes: Sequence[Mapping[str, object]]
) -> None:
    """Tells the gateway what became of versions here, each with `model`, `version`, `outcome`, `reason`.

    The gateway counts each once, so what may have arrived is told again. One that does not want to know is told nothing.
    """
    body = json.dumps({"device": device, "outcomes": list(outcomes)}).encode()
    with _asked(source, OUTCOMES_PATH, {"Content-Type": "application/json"}, interruption, body) as reply:
        text = reply.read(2000).decode("utf-8", "replace")
        if reply.status >= 400:
            error = error_of_http(reply.status, f"{source.parsed}: {text}", dict(reply.getheaders()))
            if isinstance(error, UnauthenticatedError | OverloadedError) or not isinstance(error, CallerError):
                raise error
            log.info("the gateway takes no outcomes of versions: %s", error)


def download(
    source: Source,
    offer: Offer,
    part: Path,
    target: Path,
    max_bytes: int,
    interruption: Interruption,
    pause: Callable[[float], object] | None = None,
) -> None:
    """The bundle's tar at `target`, which appears whole; what is in `part` from an earlier try is not fetched again.

    `PayloadTooLargeError` over the cap, `BundleError` where the bytes are not those of the index, `PeerUnreachableError` where the
    link breaks again and again, `CancelledError` when interrupted: `part` stays for the next try.
    """
    if target.exists():
        return
    if offer.size_bytes > max_bytes:
        raise PayloadTooLargeError(
            f"the bundle of {offer.model} version {offer.version} has {offer.size_bytes} bytes; this device takes at most "
            f"{max_bytes}: raise sync_max_bytes"
        )
    try:
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _complete(source, offer, part, interruption, pause or interruption.pause)
        seen = _sha256(part)
        if seen != offer.sha256:
            part.unlink()
            raise BundleError(
                f"the bundle of {offer.model} version {offer.version} came with sha256 {seen[:12]}…, the index says "
                f"{offer.sha256[:12]}…; it is fetched anew next time"
            )
        sync_file(part)
        part.replace(target)
    except OSError as error:
        raise StorageError(f"the bundle cannot be kept in {part.parent}: {error}; make room") from error


def _complete(
    source: Source, offer: Offer, part: Path, interruption: Interruption, pause: Callable[[float], object]
) -> None:
    """Pieces until all of it is there."""
    empty = 0
    while (have := part.stat().st_size if part.exists() else 0) < offer.size_bytes:
        try:
            _fetch_rest(source, offer, part, have, interruption)
        except PeerUnreachableError as error:
            got = (part.stat().st_size if part.exists() else 0) - have
            empty = 0 if got > 0 else empty + 1
            if empty >= MAX_EMPTY_TRIES:
                raise
            log.info(
                "the bundle of %s broke off after %d bytes, going on from there: %s", offer.model, have + got, error
            )
            pause(min(0.2 * 2**empty, 5.0))


def _fetch_rest(source: Source, offer: Offer, part: Path, have: int, interruption: Interruption) -> None:
    address = source.parsed
    wanted = {"Range": f"bytes={have}-", "If-Range": f'"{offer.sha256}"'} if have else {}
    path = f"{INDEX_PATH}/{quote(offer.model, safe='')}/{offer.version}"
    with _asked(source, path, wanted, interruption) as reply:
        if reply.status not in (200, 206):
            text = reply.read(2000).decode("utf-8", "replace")
            if reply.status == 416:
                part.unlink(missing_ok=True)
                raise PeerUnreachableError(f"{address} has another bundle by now; begun anew")
            raise error_of_http(reply.status, f"{address}: {text}", dict(reply.getheaders()))
        # 200 to a request for a part: it has changed, or the server knows no parts.
        with part.open("ab" if reply.status == 206 else "wb") as stream:
            size = have if reply.status == 206 else 0
            while chunk := reply.read(CHUNK_BYTES):
                size += len(chunk)
                if size > offer.size_bytes:
                    raise BundleError(f"{address} sends more than the {offer.size_bytes} bytes that its index says")
                stream.write(chunk)
        if size < offer.size_bytes:
            raise unreachable(address, f"it broke off after {size} of {offer.size_bytes} bytes")


@contextmanager
def _asked(
    source: Source, path: str, headers: dict[str, str], interruption: Interruption, body: bytes | None = None
) -> Iterator[http.client.HTTPResponse]:
    """The reply to a GET, or a POST of `body`, to be read inside; a link that breaks or is silent is a `PeerUnreachableError`."""
    address = source.parsed
    connection = connection_to(address, source.context())
    connection.timeout = CONNECT_S
    try:
        interruption.check()
        connection.connect()
        connection.sock.settimeout(SILENCE_S)
        with interruption.cutting(partial(_shut, connection.sock)):
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, headers=_headers(source) | headers)
            yield connection.getresponse()
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise unreachable(address, error or type(error).__name__) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise  # this disk, not the link
        raise unreachable(address, error) from error
    finally:
        connection.close()


def _shut(sock: socket.socket) -> None:
    """Wakes whoever reads from it; to close it would not."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _headers(source: Source) -> dict[str, str]:
    return {} if source.api_key is None else {"Authorization": bearer(source.api_key)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

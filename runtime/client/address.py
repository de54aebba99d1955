"""Addresses of servers as people write them, and the API key as it travels."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from runtime.errors import WrongUseError

# Longer than any single inference that a person waits for; a call without an end would hold its caller forever.
DEFAULT_TIMEOUT_S = 10.0


class Protocol(StrEnum):
    """How a client speaks."""

    GRPC = "grpc"
    HTTP = "http"


_FORMS = {
    Protocol.GRPC: '"host:port", "grpc://host:port", "grpcs://host:port" (TLS) or "unix:/path"',
    Protocol.HTTP: '"host:port", "http://host:port", "https://host:port" (TLS) or "unix:/path"',
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""
    """Of the Unix socket; empty for TCP."""
    scheme: str = ""
    """"grpcs" or "https" where the connection is encrypted (TLS); empty where it is not."""

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted and the server proves who it is."""
        return bool(self.scheme)

    @property
    def is_local(self) -> bool:
        """Whether the address cannot leave this machine."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def target(self) -> str:
        """Where to connect, without how: "host:port" or "unix:/path"."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}" if self.scheme else self.target


def parse_address(text: str, protocol: Protocol) -> Address:
    """The address that `text` names; `WrongUseError` says which forms there are."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise _wrong(text, protocol, "the path is missing")
        return Address("", 0, path)
    scheme, found, rest = text.rpartition("://")
    secure = f"{protocol}s"
    if found and scheme not in (protocol, secure):
        raise _wrong(text, protocol, _not_spoken(scheme, protocol))
    if protocol is Protocol.HTTP:
        rest = rest.removesuffix("/")
    host, found, port = rest.rpartition(":")
    if not found:
        raise _wrong(text, protocol, "the port is missing")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _wrong(text, protocol, 'an IPv6 address stands in brackets: "[::1]:8001"')
    if not host or any(c.isspace() or c in "/@?#[]" or not c.isprintable() for c in host):
        raise _wrong(text, protocol, f"{host!r} is no host")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _wrong(text, protocol, f"{port!r} is no port from 1 to 65535")
    return Address(host, int(port), scheme=secure if scheme == secure else "")


def bearer(api_key: str) -> str:
    """The value of `authorization` for a key; `WrongUseError` (without the key) where it cannot stand in a header."""
    if not api_key or not all("!" <= c <= "~" for c in api_key):
        raise WrongUseError(
            f"the API key ({len(api_key)} characters) has a space or a character that is not printable ASCII, "
            "or is empty; check for a stray newline"
        )
    return f"Bearer {api_key}"


def _not_spoken(scheme: str, protocol: Protocol) -> str:
    if protocol is Protocol.GRPC and scheme in ("http", "https"):
        return f"{scheme}:// is for edgeward.RestClient, and this client speaks gRPC"
    return f"{scheme}:// is not spoken here"


def _wrong(text: str, protocol: Protocol, reason: str) -> WrongUseError:
    return WrongUseError(f"address {text!r}: {reason}; expected {_FORMS[protocol]}")

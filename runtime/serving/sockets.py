"""Where a server listens: addresses resolved once, and a port that is taken said clearly."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from dataclasses import dataclass

from runtime.errors import MachineError, PortInUseError, WrongUseError

# As many connections as may wait to be accepted; the kernel cuts it to its own limit.
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A numeric address and a port; port 0 stands for any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(host: str) -> str:
    """The numeric address of `host`; IPv4 where the name has both, so that both protocols meet at one address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise WrongUseError(
            f"host {host!r} cannot be resolved ({error}); give an address of this machine, such as 127.0.0.1"
        ) from error
    return str(min(found, key=lambda info: info[0] != socket.AF_INET)[4][0])


def listen(endpoint: Endpoint, protocol: str, *, is_shared: bool = False) -> socket.socket:
    """A listening socket that nobody else listens on, or with `is_shared` only processes of ours that share it too.

    `PortInUseError` names host, port and the next step.
    """
    listener = _bind(endpoint, protocol, is_shared=is_shared)
    listener.listen(BACKLOG)
    return listener


def reserve(endpoint: Endpoint, protocol: str) -> socket.socket:
    """A socket that keeps the port for processes of ours that share it, and takes no connections itself."""
    return _bind(endpoint, protocol, is_shared=True)


def _bind(endpoint: Endpoint, protocol: str, *, is_shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Connections of an earlier server in TIME_WAIT do not count as "in use"; a second listener still does.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # IPv4 too, as gRPC does
        listener.bind((endpoint.host, endpoint.port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise explain_refusal(endpoint, protocol, error) from error
    return listener


def explain_refusal(endpoint: Endpoint, protocol: str, error: OSError) -> MachineError | WrongUseError:
    """Our error for an address that the operating system did not let us listen on."""
    if error.errno == errno.EADDRINUSE:
        return port_in_use(endpoint, protocol)
    if error.errno in (errno.EACCES, errno.EPERM):
        return WrongUseError(f"no permission to listen on {endpoint} for {protocol}; choose a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return WrongUseError(f"{endpoint.host} is no address of this machine; choose one that is, such as 127.0.0.1")
    return MachineError(f"cannot listen on {endpoint} for {protocol}: {error}; choose another host or port")


def port_in_use(endpoint: Endpoint, protocol: str) -> PortInUseError:
    """The error that says who cannot listen where, and what to do."""
    return PortInUseError(
        f"port {endpoint.port} on {endpoint.host} is in use by another program, so {protocol} cannot listen there; "
        f"stop that program, choose another port with --{protocol.lower()}-port, or 0 for any free port"
    )

"""The server's side of TLS: a certificate and its key, read once and checked before anything listens.

Both transports take them from here. A renewed certificate is read at the next start.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from runtime.errors import WrongUseError


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A PEM certificate (with its chain) and its private key, known to belong together."""

    cert_file: Path
    key_file: Path
    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, cert_file: Path, key_file: Path) -> ServerTls:
        """`WrongUseError` where a file cannot be read, is no PEM, or the two do not belong together."""
        cert, key = _read(cert_file, "--tls-cert"), _read(key_file, "--tls-key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An answer to OpenSSL's question for a passphrase, which would otherwise wait for somebody at a terminal.
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise WrongUseError(
                f"--tls-cert {cert_file} and --tls-key {key_file} do not make a TLS identity: {error}; expected a PEM "
                "certificate (its chain behind it) and its PEM private key without a passphrase"
            ) from error
        return cls(cert_file, key_file, cert, key)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """The same for grpcio; no certificate is asked of clients."""
        return grpc.ssl_server_credentials([(self.key, self.cert)])


def _read(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WrongUseError(f"{option} {file} cannot be read: {error.strerror or error}") from error

"""The client's side of TLS: whose certificates are believed.

With a CA file those that it signed; without one, those that the operating system believes.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.client.address import Address
from runtime.errors import WrongUseError

if TYPE_CHECKING:
    import grpc


def check_ca(address: Address, ca_file: Path | None) -> None:
    """`WrongUseError` for a CA file beside an address that is not encrypted: whoever gave it expects TLS."""
    if ca_file is not None and not address.is_secure:
        raise WrongUseError(
            f"a CA file ({ca_file}) is given, but {address} is not encrypted; "
            "write grpcs://HOST:PORT or https://HOST:PORT, or leave the CA out"
        )


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """For HTTPS: certificate and host name are checked."""
    if ca_file is None:
        return ssl.create_default_context()
    _read(ca_file)  # says which file is missing, where ssl does not
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise _no_certificates(ca_file) from error


def pinned_context(cert_file: Path) -> ssl.SSLContext:
    """For a server of this machine whose certificate is at hand: that one is believed and no other, whatever name it has."""
    text = _read(cert_file).decode("utf-8", "replace")
    end = text.find(_END)
    if end < 0:
        raise _no_certificates(cert_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the server's own certificate is the anchor
    try:
        context.load_verify_locations(cadata=text[: end + len(_END)])
    except (ssl.SSLError, ValueError) as error:
        raise _no_certificates(cert_file) from error
    return context


def channel_credentials(ca_file: Path | None) -> grpc.ChannelCredentials:
    """For gRPC: certificate and host name are checked."""
    import grpc

    return grpc.ssl_channel_credentials(_system_roots() if ca_file is None else _checked(ca_file))


def _system_roots() -> bytes | None:
    """What the operating system believes, as PEM; None (gRPC's own list) where that cannot be found out."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return "".join(map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True))).encode() or None


def _checked(ca_file: Path) -> bytes:
    tls_context(ca_file)
    return _read(ca_file)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WrongUseError(f"the CA file {file} cannot be read: {error.strerror or error}") from error


def _no_certificates(file: Path) -> WrongUseError:
    return WrongUseError(f"the CA file {file} holds no PEM certificates; expected '-----BEGIN CERTIFICATE-----' lines")


_END = "-----END CERTIFICATE-----"

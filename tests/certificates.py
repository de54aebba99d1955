"""Certificates for tests of TLS, by an authority made here; skips where trustme is not installed."""

from pathlib import Path

import pytest


def issue(folder: Path) -> Path:
    """In `folder`, which is given back: cert.pem and key.pem for this machine, ca.pem who signed them, other.pem who did not.

    stranger.pem is a key that belongs to another certificate.
    """
    trustme = pytest.importorskip("trustme", reason="trustme, which makes the certificates, is not installed")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    issued = ca.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for at, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=at > 0)
    ca.issue_cert("localhost").private_key_pem.write_to_path(folder / "stranger.pem")
    return folder

"""An API key that would travel where anybody on the way can read it: said when the agent starts, not found out later."""

from __future__ import annotations

import logging

from runtime.client.address import Address

log = logging.getLogger(__name__)


def say_if_bare(key: str | None, address: Address, advice: str) -> None:
    """Warns of a key that leaves this machine unencrypted; `advice` says how to write the address."""
    if key is not None and not address.is_local and not address.is_secure:
        log.warning("the API key travels to gateway %s without encryption; write %s", address, advice)

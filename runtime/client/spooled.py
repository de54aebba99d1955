"""Requests that an agent keeps until they can be answered: what `submit` and `fetch` of every client send and read. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from runtime.errors import PeerFailedError
from runtime.wire.idempotency import IDEMPOTENCY_KEY
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameters


@dataclass(frozen=True, slots=True)
class Spooled:
    """A request that an agent has on disk."""

    model: str
    key: str
    """What `fetch` asks with; sent again with the same inputs it is the same request."""


def submit_parameters(parameters: Parameters | None, key: str | None) -> dict[str, Any]:
    """Parameters of a request to be kept. Its key is made here, so that it can be sent again after a lost reply."""
    return {**(parameters or {}), "async": True, IDEMPOTENCY_KEY: key or uuid.uuid4().hex}


def fetch_request(spooled: Spooled) -> InferenceRequest:
    """The request that asks for a result."""
    return InferenceRequest(spooled.model, {}, parameters={"spooled_result": spooled.key})


def kept(response: InferenceResponse) -> Spooled:
    """What the reply to a submission says; `PeerFailedError` where the server answered at once: it keeps nothing."""
    key = response.parameters.get(IDEMPOTENCY_KEY)
    if "spooled" not in response.parameters or not isinstance(key, str):
        raise PeerFailedError("the server answered at once and kept nothing; only an agent has a spool: send it to one")
    return Spooled(response.model, key)


def result(response: InferenceResponse) -> InferenceResponse | None:
    """The result; None while it is still kept."""
    return None if response.parameters.get("spooled") is True else response

"""Idempotency keys: the request parameter, what a key may look like, and the digest that says whether two requests are the same."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from runtime.errors import InvalidInputError
from runtime.tensors import datatype_of, to_raw
from runtime.wire.values import InferenceRequest, Parameters

IDEMPOTENCY_KEY: Final = "idempotency_key"
"""Request parameter (string): a request with the key of an earlier one is answered with that one's result."""

# How a request travels and who answers it does not make it another request.
_NOT_THE_PAYLOAD: Final = frozenset(
    {IDEMPOTENCY_KEY, "async", "route", "privacy", "policy", "idempotent", "timeout", "priority", "edgeward_timing"}
)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def key_of(parameters: Parameters) -> str | None:
    """The request's key; None without one. `InvalidInputError` for a value that is no key."""
    key = parameters.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidInputError(
            f"parameter {IDEMPOTENCY_KEY!r} is {key!r:.80}; expected up to 128 letters, digits, '.', '_', ':' and '-'"
        )
    return key


def payload_digest(request: InferenceRequest) -> str:
    """sha256 of what decides the answer: model, version, tensors, wanted outputs and the parameters that change it."""
    digest = hashlib.sha256()

    def add(*words: object) -> None:
        for word in words:
            raw = repr(word).encode()
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)

    add(request.model, request.version)
    for name in sorted(request.inputs):
        value = request.inputs[name]
        raw = to_raw(value)
        add(name, datatype_of(value.dtype), tuple(value.shape), len(raw))
        digest.update(raw)
    for output in request.outputs:
        add(output.name, sorted(output.parameters.items()))
    add(sorted((name, value) for name, value in request.parameters.items() if name not in _NOT_THE_PAYLOAD))
    return digest.hexdigest()

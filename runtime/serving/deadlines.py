"""How long a caller waits: the transport's own deadline, and the request parameter `timeout` of Triton's clients."""

from __future__ import annotations

import time
from dataclasses import replace

from runtime.errors import InvalidInputError
from runtime.wire.values import InferenceRequest

TIMEOUT_PARAMETER = "timeout"
"""Microseconds that the request may take, from its arrival; 0: no limit of its own (Triton's `timeout`, both protocols)."""


def with_timeout(request: InferenceRequest) -> InferenceRequest:
    """The request with the nearer of its two deadlines: the transport's, and the one its `timeout` parameter asks for."""
    timeout_us = request.parameters.get(TIMEOUT_PARAMETER)
    if timeout_us is None:
        return request
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
        raise InvalidInputError(
            f"parameter 'timeout' is {timeout_us!r}; expected microseconds as a whole number, or 0 for no limit"
        )
    if timeout_us == 0:
        return request
    asked = time.monotonic() + timeout_us / 1e6
    return replace(request, deadline=asked if request.deadline is None else min(asked, request.deadline))

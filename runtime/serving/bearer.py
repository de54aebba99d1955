"""The one hook for API keys that every transport calls: whoever runs the server says what a good key is."""

from __future__ import annotations

from collections.abc import Callable

from runtime.errors import UnauthenticatedError

Authorize = Callable[[str | None], None]
"""Given the bearer value of a request (None: none was sent), returns or raises `UnauthenticatedError`."""


def bearer_value(authorization: str | None) -> str | None:
    """The value in `Bearer <value>`, the content of an authorization header; None without a header.

    `UnauthenticatedError` for a header of another scheme.
    """
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise UnauthenticatedError(
            "the authorization header is not of the form 'Bearer <key>'; send the API key that way"
        )
    return value.strip()

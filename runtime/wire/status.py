"""Errors on the wire: one table from each error class to its gRPC and HTTP status, and the way back for clients.

Knows the status codes by name only, so it needs neither grpc nor an HTTP library: transports turn a name into their
own. Beside the status go hints (gRPC trailing metadata, HTTP headers): the class by name, and when to come back. With
them a client of ours tells a full queue from a broken connection; any other client gets by without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from runtime import errors
from runtime.errors import EdgewardError, OverloadedError, PeerFailedError

# Trailers and headers share a budget of 8 KiB in gRPC and most HTTP servers, and percent-encoding can treble a text's
# bytes. gRPC replaces a status over twice that by RESOURCE_EXHAUSTED (seen 2026-11): another error, and a retryable one.
MAX_TEXT_BYTES = 2000

ERROR_HINT = "edgeward-error"
RETRY_HINT = "retry-after"

INTERNAL_TEXT = "the server failed in a way it did not expect; its log says more"


class GrpcCode(StrEnum):
    """gRPC's status codes, by the names that `grpc.StatusCode` has."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class Status:
    """How both protocols name one kind of failure."""

    grpc: GrpcCode
    http: int


# UNAVAILABLE is kept for what may be retried; a machine that cannot until somebody mends it is FAILED_PRECONDITION.
TABLE: Mapping[type[EdgewardError], Status] = {
    errors.EdgewardError: Status(GrpcCode.INTERNAL, 500),
    errors.CallerError: Status(GrpcCode.INVALID_ARGUMENT, 400),
    errors.InvalidInputError: Status(GrpcCode.INVALID_ARGUMENT, 400),
    errors.ModelNotFoundError: Status(GrpcCode.NOT_FOUND, 404),
    errors.ConflictError: Status(GrpcCode.FAILED_PRECONDITION, 409),
    errors.PayloadTooLargeError: Status(GrpcCode.RESOURCE_EXHAUSTED, 413),
    errors.UnauthenticatedError: Status(GrpcCode.UNAUTHENTICATED, 401),
    errors.UnsupportedError: Status(GrpcCode.UNIMPLEMENTED, 501),
    errors.WrongUseError: Status(GrpcCode.INVALID_ARGUMENT, 400),
    errors.ModelError: Status(GrpcCode.INTERNAL, 500),
    errors.BundleError: Status(GrpcCode.INTERNAL, 500),
    errors.BundleNotFoundError: Status(GrpcCode.INTERNAL, 500),
    errors.ExecutionError: Status(GrpcCode.INTERNAL, 500),
    errors.MachineError: Status(GrpcCode.FAILED_PRECONDITION, 500),
    errors.BackendUnavailableError: Status(GrpcCode.FAILED_PRECONDITION, 500),
    errors.NoCandidateError: Status(GrpcCode.FAILED_PRECONDITION, 500),
    errors.PortInUseError: Status(GrpcCode.FAILED_PRECONDITION, 500),
    errors.StorageError: Status(GrpcCode.FAILED_PRECONDITION, 507),
    errors.ModelNotReadyError: Status(GrpcCode.UNAVAILABLE, 503),
    errors.OverloadedError: Status(GrpcCode.UNAVAILABLE, 503),
    errors.PeerError: Status(GrpcCode.INTERNAL, 502),
    errors.PeerUnreachableError: Status(GrpcCode.UNAVAILABLE, 502),
    errors.PeerFailedError: Status(GrpcCode.INTERNAL, 502),
    errors.DeadlineExceededError: Status(GrpcCode.DEADLINE_EXCEEDED, 504),
    errors.CancelledError: Status(GrpcCode.CANCELLED, 499),
}
_UNEXPECTED = Status(GrpcCode.INTERNAL, 500)

_CLASS_NAMED = {cls.__name__: cls for cls in TABLE}

_CLASS_OF_GRPC: Mapping[GrpcCode, type[EdgewardError]] = {
    GrpcCode.CANCELLED: errors.CancelledError,
    GrpcCode.UNKNOWN: errors.PeerFailedError,
    GrpcCode.INVALID_ARGUMENT: errors.InvalidInputError,
    GrpcCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    GrpcCode.NOT_FOUND: errors.ModelNotFoundError,
    GrpcCode.ALREADY_EXISTS: errors.InvalidInputError,
    GrpcCode.PERMISSION_DENIED: errors.UnauthenticatedError,
    GrpcCode.RESOURCE_EXHAUSTED: errors.OverloadedError,
    GrpcCode.FAILED_PRECONDITION: errors.PeerFailedError,
    GrpcCode.ABORTED: errors.PeerFailedError,
    GrpcCode.OUT_OF_RANGE: errors.InvalidInputError,
    GrpcCode.UNIMPLEMENTED: errors.UnsupportedError,
    GrpcCode.INTERNAL: errors.PeerFailedError,
    GrpcCode.UNAVAILABLE: errors.PeerUnreachableError,
    GrpcCode.DATA_LOSS: errors.PeerFailedError,
    GrpcCode.UNAUTHENTICATED: errors.UnauthenticatedError,
}

_CLASS_OF_HTTP: Mapping[int, type[EdgewardError]] = {
    401: errors.UnauthenticatedError,
    403: errors.UnauthenticatedError,
    404: errors.ModelNotFoundError,
    405: errors.UnsupportedError,
    413: errors.PayloadTooLargeError,
    429: errors.OverloadedError,
    499: errors.CancelledError,
    501: errors.UnsupportedError,
    502: errors.PeerUnreachableError,
    503: errors.OverloadedError,
    504: errors.DeadlineExceededError,
}


def status_of(error: BaseException) -> Status:
    """The status of an error: that of the nearest class in the table; INTERNAL / 500 for an exception not of ours."""
    for cls in type(error).__mro__:
        status = TABLE.get(cls)
        if status is not None:
            return status
    return _UNEXPECTED


def text_of(error: BaseException) -> str:
    """What a caller may read: our own errors' text, made fit for a header; nothing at all of a foreign exception."""
    if not isinstance(error, EdgewardError):
        return INTERNAL_TEXT
    # A lone surrogate, which JSON can name, has no UTF-8.
    encoded = (str(error) or type(error).__name__).encode("utf-8", "replace")
    if len(encoded) <= MAX_TEXT_BYTES:
        return encoded.decode()
    return encoded[: MAX_TEXT_BYTES - len("…".encode())].decode("utf-8", "ignore") + "…"


def hints_of(error: BaseException) -> dict[str, str]:
    """What goes beside the status, as gRPC trailing metadata or HTTP headers; names are lower case, values ASCII."""
    if not isinstance(error, EdgewardError):
        return {}
    hints = {ERROR_HINT: next(cls.__name__ for cls in type(error).__mro__ if cls in TABLE)}
    if isinstance(error, OverloadedError):
        hints[RETRY_HINT] = str(max(1, math.ceil(error.retry_after_s)))  # whole seconds: all that HTTP allows
    return hints


def error_of_grpc(code: str, text: str, hints: Mapping[str, str]) -> EdgewardError:
    """The error that a client raises for a gRPC status; `code` is the name of a `grpc.StatusCode`."""
    try:
        known = GrpcCode(code)
    except ValueError:
        return PeerFailedError(f"unknown gRPC status {code}: {text}")
    cls = _CLASS_OF_GRPC[known]
    if known is GrpcCode.RESOURCE_EXHAUSTED and "larger than max" in text:  # gRPC's own words at its message cap
        cls = errors.PayloadTooLargeError
    hinted = _hinted(hints)
    if hinted is not None and TABLE[hinted].grpc is known:
        cls = hinted
    return _error(cls, text, hints)


def error_of_http(status: int, text: str, hints: Mapping[str, str]) -> EdgewardError:
    """The error that a client raises for an HTTP status of 400 or more."""
    cls = _CLASS_OF_HTTP.get(status)
    if cls is None:
        cls = errors.InvalidInputError if 400 <= status < 500 else PeerFailedError
    hinted = _hinted(hints)
    if hinted is not None and TABLE[hinted].http == status:
        cls = hinted
    return _error(cls, text, hints)


def _hinted(hints: Mapping[str, str]) -> type[EdgewardError] | None:
    """The class that the server named, unless it is about the server's own model or machine: that is its failure."""
    cls = _CLASS_NAMED.get(hints.get(ERROR_HINT, ""))
    if cls is None or (issubclass(cls, errors.ModelError | errors.MachineError) and not cls.retryable):
        return None
    if cls in (errors.EdgewardError, errors.PeerError):
        return None
    return cls


def _error(cls: type[EdgewardError], text: str, hints: Mapping[str, str]) -> EdgewardError:
    if not issubclass(cls, OverloadedError):
        return cls(text)
    try:
        retry_after_s = float(hints[RETRY_HINT])
    except (KeyError, ValueError):
        return cls(text)
    return cls(text, retry_after_s) if 0 <= retry_after_s < math.inf else cls(text)

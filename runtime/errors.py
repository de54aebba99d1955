"""The one tree of errors that callers of the runtime may see.

    EdgewardError
    ├── CallerError                  the request is wrong: mend it before sending it again
    │   ├── InvalidInputError            a name, dtype, shape, byte count or parameter does not fit the model
    │   ├── ModelNotFoundError           no such model or version here
    │   ├── ConflictError                what is stored already rules the request out
    │   ├── PayloadTooLargeError         a message is over a size cap
    │   ├── UnauthenticatedError         a key is missing or wrong
    │   ├── UnsupportedError             the protocol names it, this server does not do it
    │   └── WrongUseError                a command line, file or setting is wrong
    ├── ModelError                   the bundle or the model is wrong: ship another one
    │   ├── BundleError                  a digest, schema or file of the bundle does not hold
    │   │   └── BundleNotFoundError          nothing is where the bundle was said to be
    │   └── ExecutionError               the model failed while it ran
    ├── MachineError                 this machine cannot
    │   ├── BackendUnavailableError      an engine or device is not here
    │   ├── NoCandidateError             nothing that runs here is right enough
    │   ├── PortInUseError               somebody else listens there
    │   ├── StorageError                 a database or disk takes no more, or cannot be read
    │   ├── ModelNotReadyError           still loading, or being unloaded           (may be retried)
    │   └── OverloadedError              the queue is full or would miss the deadline (may be retried)
    ├── PeerError                    the other end failed
    │   ├── PeerUnreachableError         no connection, or it broke                 (may be retried)
    │   └── PeerFailedError              it answered with an error of its own
    ├── DeadlineExceededError        the answer would come too late
    └── CancelledError               the caller went away

Whose fault it is stands in the class, and so does whether the same request may be sent again. The classes know nothing of
HTTP or gRPC: `runtime.wire.status` maps every one of them to both. A text says what happened, the value seen, what was
expected, and the next step.
"""

from __future__ import annotations

from typing import ClassVar


class EdgewardError(Exception):
    """Anything that Edgeward itself says went wrong; `str(error)` is fit to be shown to a person."""

    retryable: ClassVar[bool] = False
    """Whether the very same request may succeed when sent again, here or elsewhere."""


class CallerError(EdgewardError):
    """The request is wrong; sending it again unchanged fails again, on any machine."""


class InvalidInputError(CallerError):
    """A name, dtype, shape, byte count or parameter does not fit the model's signature."""


class ModelNotFoundError(CallerError):
    """No such model, or no such version of it, on this server."""


class ConflictError(CallerError):
    """It fits, but not with what is stored already: a second release of a model, a key that was used for another payload."""


class PayloadTooLargeError(CallerError):
    """A message, body or tensor is larger than the cap of this server."""


class UnauthenticatedError(CallerError):
    """The API key is missing or wrong."""


class UnsupportedError(CallerError):
    """The protocol has a name for it, but this server does not do it."""


class WrongUseError(CallerError):
    """A command line, settings file or argument is wrong."""


class ModelError(EdgewardError):
    """The bundle or the model in it is wrong."""


class BundleError(ModelError):
    """A file, digest or schema of the bundle does not hold."""


class BundleNotFoundError(BundleError):
    """No file, folder or shipped bundle goes by that name: to a command line, wrong use."""


class ExecutionError(ModelError):
    """The model failed while it ran on a request that fits its signature."""


class MachineError(EdgewardError):
    """Something that this machine, as it is now, cannot do."""


class BackendUnavailableError(MachineError):
    """An engine or its device is not on this machine."""


class NoCandidateError(MachineError):
    """No variant × backend runs here and holds the accuracy floor."""


class PortInUseError(MachineError):
    """The address to listen on is taken."""


class StorageError(MachineError):
    """A database or disk takes no more, or what is on it cannot be read; nothing was acknowledged."""


class ModelNotReadyError(MachineError):
    """The model is still loading, or is being unloaded."""

    retryable = True


class OverloadedError(MachineError):
    """The queue is full, or cannot be served before the deadline."""

    retryable = True

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PeerError(EdgewardError):
    """The server at the other end failed or refused."""


class PeerUnreachableError(PeerError):
    """No connection could be made, or it broke before the answer."""

    retryable = True


class PeerFailedError(PeerError):
    """The peer answered with an error of its own."""


class DeadlineExceededError(EdgewardError):
    """The deadline passed, or is sure to pass before an answer can be had."""


class CancelledError(EdgewardError):
    """The caller went away before the answer."""

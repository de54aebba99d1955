"""The backend that measures a variant while a bundle is built or checked."""

from __future__ import annotations

from runtime.backends.base import Backend
from runtime.backends.registry import all_backends
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError
from runtime.hardware import probe


def first_backend(format_: Format) -> Backend:
    """The first backend that runs the format here; those on the processor first, which compute the same everywhere."""
    hardware = probe()
    reasons = []
    for backend in sorted((b for b in all_backends() if format_ in b.formats), key=lambda b: b.device != "cpu"):
        reason = backend.unavailable_reason(hardware)
        if reason is None:
            return backend
        reasons.append(f"{backend.name}: {reason}")
    raise BackendUnavailableError(f"nothing runs {format_.value} files here: {'; '.join(reasons)}")

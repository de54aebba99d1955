"""What a server takes at most, unless it is told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Image batches pass, a run-away client does not; gRPC's own default of 4 MiB is below a batch of 8 images as float32.
DEFAULT_MAX_MESSAGE_BYTES: Final = 64 << 20
MAX_QUEUED_ROWS: Final = 8192
MAX_QUEUED_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait before one model version."""

    max_rows: int = MAX_QUEUED_ROWS
    max_bytes: int = MAX_QUEUED_BYTES

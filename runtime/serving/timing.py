"""Where one request's time went, for a caller that asks with the parameter `edgeward_timing`: see `Timing.parameters`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import InvalidInputError
from runtime.wire.values import Parameters

TIMING = "edgeward_timing"
"""Request parameter (bool), and the name of the extension that says a server knows it."""


@dataclass(slots=True)
class Timing:
    """Nanoseconds of one request in the queue and in its batch; the scheduler fills it in."""

    queue_ns: int = 0
    """From its arrival in the queue until its batch was taken up; and of a batch on a worker thread, the way there and back."""
    batch_ns: int = 0
    """Joining the batch's inputs and taking its outputs apart."""
    execute_ns: int = 0
    """The model's run, of the whole batch."""
    batch_rows: int = 0
    """Rows that ran together."""

    def parameters(self, said: Parameters) -> Parameters:
        """Reply parameters `said` with these under their own names."""
        return {
            **said,
            "queue_ns": self.queue_ns,
            "batch_ns": self.batch_ns,
            "execute_ns": self.execute_ns,
            "batch_rows": self.batch_rows,
        }


def timing_asked(parameters: Mapping[str, object]) -> Timing | None:
    """A `Timing` to fill in where the request asks for one; `InvalidInputError` for another value than true or false."""
    value = parameters.get(TIMING, False)
    if not isinstance(value, bool):
        raise InvalidInputError(f"parameter {TIMING!r} is {value!r:.80}; expected true or false")
    return Timing() if value else None

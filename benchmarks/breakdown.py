"""Where the time went: client, wire, queue, batch and execution, of the requests that were answered. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.samples import Recording
from benchmarks.settings import TargetName

PARTS = ("client", "wire", "queue", "batch", "execute")


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Means in milliseconds, which add up to the mean latency (percentiles would not); None where nobody tells."""

    client: float
    """Due, and waiting for a free connection and for the generator."""
    wire: float | None
    """Sent, and neither queued nor run: encoding, the network, the server's transport, decoding."""
    queue: float | None
    batch: float | None
    """Joining requests into one batch, and taking its outputs apart."""
    execute: float | None

    def to_dict(self) -> dict[str, float | None]:
        """The fields in types that `json` writes."""
        return asdict(self)


def breakdown_of(recording: Recording) -> Breakdown | None:
    """None where nothing was answered. In process there is no wire and no queue: all is execution."""
    samples, ok = recording.samples, recording.is_ok
    if not ok.any():
        return None
    client = float((samples.sent_ns - samples.planned_ns)[ok].mean()) / 1e6
    service = float(samples.service_ms[ok].mean())
    if TargetName.parse(recording.header["setting"]["target"]).is_inproc:
        return Breakdown(client, 0.0, 0.0, 0.0, service)
    if samples.queue_ns is None or samples.batch_ns is None or samples.execute_ns is None:
        return Breakdown(client, None, None, None, None)
    if (samples.execute_ns[ok] < 0).any():  # some servers behind one address tell and some do not
        return Breakdown(client, None, None, None, None)
    queue, batch, execute = (
        float(np.mean(part[ok])) / 1e6 for part in (samples.queue_ns, samples.batch_ns, samples.execute_ns)
    )
    return Breakdown(client, service - queue - batch - execute, queue, batch, execute)

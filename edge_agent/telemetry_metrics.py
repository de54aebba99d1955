"""What became of this device's windows of statistics, as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from runtime.telemetry.exposition import Collector, Family, Kind

if TYPE_CHECKING:
    from edge_agent.telemetry import Telemetry

RESULTS: Final = ("sent", "joined", "dropped", "refused")


def telemetry_metrics(telemetry: Telemetry) -> Collector:
    """The collector of what sends them."""

    async def collect() -> Sequence[Family]:
        told = await asyncio.to_thread(telemetry.describe)  # windows are packed under the same lock
        return [
            Family(
                "edgeward_telemetry_windows_total",
                Kind.COUNTER,
                "Windows of statistics: sent to the gateway, joined with another while they waited, dropped here, refused there.",
                [({"result": result}, told[result]) for result in RESULTS],
            ),
            Family(
                "edgeward_telemetry_waiting_windows",
                Kind.GAUGE,
                "Windows of statistics that wait for the gateway or for the budget of bytes.",
                [({}, told["waiting"])],
            ),
            Family(
                "edgeward_telemetry_sent_bytes_total",
                Kind.COUNTER,
                "Bytes of statistics sent to the gateway.",
                [({}, told["sent_bytes"])],
            ),
        ]

    return collect

"""What became of the windows of statistics that devices sent, and what they told of themselves, as metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.monitoring.blob import REASONS
from runtime.serving.metrics.labels import at_the_edge
from runtime.telemetry.exposition import Family, Kind, Sample

WINDOWS: Final = "edgeward_device_windows_total"
NOT_STORED: Final = "edgeward_device_windows_not_stored_total"
DRIFTING: Final = "edgeward_drifting_devices"
NOT_KNOWN: Final = "edgeward_devices_not_known_to_drift"
ENVELOPE: Final = "envelope"
"""What was refused before its statistics were looked at, or is of a model that is not served here."""


@dataclass(slots=True)
class WindowCounts:
    """Since the program began."""

    accepted: int = 0
    repeated: int = 0
    """Came before: a device that did not hear the answer sends again."""
    dropped: int = 0
    """Of a device that sends more than its share."""
    not_stored: int = 0
    """Of those accepted, counted and lost with this program: the store took nothing."""
    refused: dict[str, int] = field(default_factory=dict)
    """By one of `REASONS` and `ENVELOPE`."""

    def refuse(self, reason: str) -> None:
        """Counts one more."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def to_dict(self) -> Mapping[str, object]:
        """As JSON."""
        return {
            "accepted": self.accepted,
            "repeated": self.repeated,
            "dropped": self.dropped,
            "not_stored": self.not_stored,
            "refused": dict(self.refused),
        }


def window_metrics(counts: WindowCounts) -> list[Family]:
    """Every result is there from the beginning, so that the first refusal is an increase."""
    results: list[Sample] = [
        ({"result": result, "reason": ""}, count)
        for result, count in (
            ("accepted", counts.accepted),
            ("repeated", counts.repeated),
            ("dropped", counts.dropped),
        )
    ]
    results += [
        ({"result": "refused", "reason": reason}, counts.refused.get(reason, 0)) for reason in (*REASONS, ENVELOPE)
    ]
    return [
        Family(WINDOWS, Kind.COUNTER, "Windows of statistics that devices sent, by what became of them.", results),
        Family(
            NOT_STORED,
            Kind.COUNTER,
            "Accepted windows that will not survive a restart.",
            [({}, counts.not_stored)],
        ),
    ]


def device_metrics(told: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[Family]:
    """By model and version, what `Devices.that_tell_of` says of them; a model that none told of is not in it."""
    labelled = [
        ({"model": model, "version": str(version), **at_the_edge(model, str(version))}, found)
        for (model, version), found in told.items()
    ]
    return [
        Family(
            DRIFTING,
            Kind.GAUGE,
            "Devices on which a model's inputs or outputs drift, of those that told within a day.",
            [(labels, found["drifting"]) for labels, found in labelled],
        ),
        Family(
            NOT_KNOWN,
            Kind.GAUGE,
            "Devices that told of no drift within a day, and have private rows that only they may look at.",
            [(labels, found["not_known"]) for labels, found in labelled],
        ),
    ]

"""What a server has beside its models, whichever they are: shared memory, log settings, trace settings; one for all transports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from runtime.serving.log_settings import LogSettings
from runtime.serving.shared_memory import SharedMemory
from runtime.serving.trace import TraceSettings
from runtime.wire.values import ServerDescription

TRACES = "traces"
"""The folder of traces, below the folder of state."""


@dataclass(frozen=True, slots=True)
class Controls:
    """Used on the server's event loop."""

    memory: SharedMemory
    logs: LogSettings
    traces: TraceSettings

    @classmethod
    def under(cls, home: Path, max_tensor_bytes: int, memory_off_because: str | None) -> Controls:
        """Those of a new server."""
        return cls(SharedMemory(max_tensor_bytes, memory_off_because), LogSettings(), TraceSettings(home / TRACES))

    def describe(self, server: ServerDescription) -> ServerDescription:
        """What the service says of itself, with the extensions that are the server's own."""
        memory = () if self.memory.off_because is not None else ("system_shared_memory",)
        return replace(server, extensions=tuple(sorted({*server.extensions, "logging", "trace", *memory})))

    def close(self) -> None:
        """Gives the regions back, and the loggers as they were."""
        if self.memory.off_because is None:
            self.memory.unregister()
        self.logs.close()

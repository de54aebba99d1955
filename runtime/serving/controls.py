"""What a server has beside its models, whichever they are: shared memory, log settings, trace settings; one for all transports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.errors import UnsupportedError
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
    fixed_because: str | None = None
    """Why log and trace settings are read only; None: they may be changed."""

    @classmethod
    def under(
        cls, home: Path, max_tensor_bytes: int, memory_off_because: str | None, fixed_because: str | None = None
    ) -> Controls:
        """Those of a new server."""
        memory = SharedMemory(max_tensor_bytes, memory_off_because)
        return cls(memory, LogSettings(), TraceSettings(home / TRACES), fixed_because)

    def require_changeable(self, changes: Mapping[str, object]) -> None:
        """`UnsupportedError` where settings are read only and a request would change some."""
        if changes and self.fixed_because is not None:
            raise UnsupportedError(f"{self.fixed_because}; these settings can be changed with one worker")

    def describe(self, server: ServerDescription) -> ServerDescription:
        """What the service says of itself, with the extensions that are the server's own."""
        memory = () if self.memory.off_because is not None else ("system_shared_memory",)
        return replace(server, extensions=tuple(sorted({*server.extensions, "logging", "trace", *memory})))

    def close(self) -> None:
        """Gives the regions back, and the loggers as they were."""
        if self.memory.off_because is None:
            self.memory.unregister()
        self.logs.close()

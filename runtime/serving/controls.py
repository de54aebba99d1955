"""What a server has beside its models, whichever they are: shared memory, log and trace settings, what it counts; one for all
transports.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.errors import CallerError, EdgewardError, UnsupportedError
from runtime.serving.asking import Answer, Ask, Withdraw, ask_in_task
from runtime.serving.load import Load
from runtime.serving.log_settings import LogSettings
from runtime.serving.memory.shared_memory import SharedMemory
from runtime.serving.service import InferenceService
from runtime.serving.trace import Infer, TraceSettings
from runtime.serving.wakeful import Wakeful
from runtime.telemetry.context import (
    TRACEPARENT,
    RequestMark,
    parse_traceparent,
    request_mark,
    traceparent,
    traceparent_in,
)
from runtime.telemetry.tracing import Tracer
from runtime.wire.values import InferenceRequest, InferenceResponse, ServerDescription

log = logging.getLogger(__name__)

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
    load: Load = field(default_factory=Load)
    wakeful: Wakeful = field(default_factory=Wakeful)
    tracer: Tracer | None = None
    """None: no OpenTelemetry."""
    names_requests: bool = False
    """Whether log lines say which request they were written for."""

    @classmethod
    def under(
        cls,
        home: Path,
        max_tensor_bytes: int,
        memory_off_because: str | None,
        fixed_because: str | None = None,
        *,
        tracer: Tracer | None = None,
        names_requests: bool = False,
        load: Load | None = None,
    ) -> Controls:
        """Those of a new server."""
        return cls(
            SharedMemory(max_tensor_bytes, memory_off_because),
            LogSettings(),
            TraceSettings(home / TRACES),
            fixed_because,
            load=Load() if load is None else load,
            tracer=tracer,
            names_requests=names_requests,
        )

    def require_changeable(self, changes: Mapping[str, object]) -> None:
        """`UnsupportedError` where settings are read only and a request would change some."""
        if changes and self.fixed_because is not None:
            raise UnsupportedError(f"{self.fixed_because}; these settings can be changed with one worker")

    def around(self, infer: Infer) -> Infer:
        """`infer` as transports call it, traced where that is on, and named in log lines where they are JSON.

        Who calls counts (see `Load`): only it knows whether the answer could be sent.
        """
        inner = self.traces.around(infer)
        if self.tracer is not None:
            inner = self.tracer.around(inner)
        return _named(inner) if self.names_requests else inner

    def asking(self, service: InferenceService) -> Ask:
        """The short way to `service`, traced and named as by `around`, and as little counted.

        Whatever needs a context of its own, and a service that has no short way, gets a task.
        """
        in_task = ask_in_task(self.around(service.infer))
        at_once: Ask | None = getattr(service, "ask", None)
        if at_once is None or self.tracer is not None or self.names_requests:
            return in_task
        direct, traces = at_once, self.traces

        def ask(request: InferenceRequest, answer: Answer) -> Withdraw:
            return in_task(request, answer) if traces.is_on else direct(request, answer)

        return ask

    def follow_headers(self, headers: Mapping[bytes, bytes]) -> None:
        """Makes the caller's span, if it sent one, the parent of what this task does."""
        if self.tracer is not None:
            traceparent.set(parse_traceparent(headers.get(TRACEPARENT.encode())))

    def follow_metadata(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """`follow_headers` for a gRPC call."""
        if self.tracer is not None:
            traceparent.set(traceparent_in(metadata))

    async def describe(self, server: ServerDescription) -> ServerDescription:
        """What the service says of itself, with the extensions that are the server's own."""
        own = {"logging", "trace"}
        if self.memory.off_because is None:
            own.add("system_shared_memory")
            with suppress(UnsupportedError):
                await self.memory.require_cuda()
                own.add("cuda_shared_memory")
        return replace(server, extensions=tuple(sorted({*server.extensions, *own})))

    def close(self) -> None:
        """Gives the regions back, and the loggers as they were."""
        self.memory.close()
        self.logs.close()


def _named(infer: Infer) -> Infer:
    async def named(request: InferenceRequest) -> InferenceResponse:
        token = request_mark.set(RequestMark(request.id, request.model))
        try:
            return await infer(request)
        except EdgewardError as error:
            log.log(
                logging.INFO if isinstance(error, CallerError) else logging.WARNING,
                "not answered: %s: %s",
                type(error).__name__,
                error,
            )
            raise
        finally:
            request_mark.reset(token)

    return named

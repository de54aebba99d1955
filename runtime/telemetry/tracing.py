"""OpenTelemetry traces of inferences (extra `otel`): a span for each, with its queue, batch and execution below it.

The span's parent comes in over the wire and its own id goes out with it, so that an agent's and a gateway's spans make one trace.
Where no endpoint is set none of this is made, and requests pass no code of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from runtime.errors import EdgewardError, WrongUseError
from runtime.telemetry.context import TRACEPARENT, traceparent
from runtime.wire.values import InferenceRequest, InferenceResponse, Parameter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

Infer = Callable[[InferenceRequest], Awaitable[InferenceResponse]]

TIMING: Final = "edgeward_timing"
"""The request parameter that asks the runtime where the time went; see `runtime.serving.timing`."""
_STAGES: Final = (("queue", "queue_ns"), ("batch", "batch_ns"), ("execute", "execute_ns"))
_TIMES: Final = (*(key for _, key in _STAGES), "batch_rows")
# At the end of a process, for spans that are not exported yet.
FLUSH_S: Final = 3.0


class Tracer:
    """Makes and exports spans. Used on one event loop; exporting has a thread of its own, and drops spans when it lags."""

    def __init__(
        self, program: str, version: str, here: str, exporter: SpanExporter, sample_ratio: float = 1.0
    ) -> None:
        """`here`: the `served_by` of what is answered in this process."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._program = program
        self._here = here
        self._provider = TracerProvider(
            resource=Resource({"service.name": program, "service.version": version}),
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            shutdown_on_exit=False,
        )
        self._exporter = exporter
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("edgeward", version)
        self._propagator = TraceContextTextMapPropagator()

    def around(self, infer: Infer) -> Infer:
        """`infer` in a span of its own, below the one that `context.traceparent` names."""

        async def traced(request: InferenceRequest) -> InferenceResponse:
            came_with = traceparent.get()
            span, began_ns = self._begin(came_with, request), time.time_ns()
            token = traceparent.set(self._name(span))
            wants_timing = TIMING in request.parameters
            asked = request if wants_timing else replace(request, parameters={**request.parameters, TIMING: True})
            try:
                response = await infer(asked)
            except BaseException as error:
                self._fail(span, error)
                raise
            else:
                if span.is_recording():
                    self._tell(span, response, began_ns)
                return response if wants_timing else _without_times(response)
            finally:
                span.end()
                traceparent.reset(token)

        return traced

    def close(self) -> None:
        """Exports what is left, for at most `FLUSH_S`; blocks."""
        # The SDK's own limit is not kept: with a collector that is away it tried again for 7 s.
        flushing = threading.Thread(target=self._provider.force_flush, name="edgeward-spans", daemon=True)
        flushing.start()
        flushing.join(FLUSH_S)
        if flushing.is_alive():
            log.warning("spans were not exported within %g s and are lost: is the collector there?", FLUSH_S)
            self._exporter.shutdown()  # ends the wait between two tries
        self._provider.shutdown()

    def _begin(self, came_with: str | None, request: InferenceRequest) -> Span:
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract({} if came_with is None else {TRACEPARENT: came_with})
        attributes = {"edgeward.model": request.model, "edgeward.request_id": request.id}
        return self._tracer.start_span(f"{self._program} infer", context, SpanKind.SERVER, attributes)

    def _name(self, span: Span) -> str | None:
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier.get(TRACEPARENT)

    def _tell(self, span: Span, response: InferenceResponse, began_ns: int) -> None:
        """The reply's words, and the stages of a run on this machine one after another from where the request came in.

        A run elsewhere has its spans from there.
        """
        from opentelemetry.trace import set_span_in_context

        said = response.parameters
        span.set_attribute("edgeward.version", response.version)
        for name in ("served_by", "backend", "reason", "release"):
            if name in said:
                span.set_attribute(f"edgeward.{name}", said[name])
        if said.get("served_by") != self._here:
            return
        context, at = set_span_in_context(span), began_ns
        for stage, key in _STAGES:
            took_ns = _whole(said.get(key))
            if took_ns is None:
                return
            child = self._tracer.start_span(stage, context, start_time=at)
            if stage == "execute" and (rows := _whole(said.get("batch_rows"))) is not None:
                child.set_attribute("edgeward.batch_rows", rows)
            child.end(at + took_ns)
            at += took_ns

    def _fail(self, span: Span, error: BaseException) -> None:
        """The class of the error and no more: its text may quote what a caller sent."""
        from opentelemetry.trace import Status, StatusCode

        name = type(error).__name__
        span.set_attribute("error.type", name)
        span.set_status(Status(StatusCode.ERROR, name if isinstance(error, EdgewardError) else "unforeseen"))


def open_tracer(endpoint: str, program: str, version: str, here: str, sample_ratio: float) -> Tracer:
    """A tracer that sends to a collector's OTLP/HTTP `endpoint`, such as http://127.0.0.1:4318.

    `WrongUseError` where the extra is not installed or the endpoint is no URL.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise WrongUseError(f"otlp_endpoint is {endpoint!r:.100}; expected a URL such as http://127.0.0.1:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise WrongUseError(f"traces need OpenTelemetry ({error}); pip install 'edgeward[otel]'") from error
    path = "" if "/" in endpoint.partition("://")[2].rstrip("/") else "/v1/traces"
    return Tracer(program, version, here, OTLPSpanExporter(endpoint=endpoint.rstrip("/") + path), sample_ratio)


def _whole(value: Parameter | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _without_times(response: InferenceResponse) -> InferenceResponse:
    said: dict[str, Any] = {name: value for name, value in response.parameters.items() if name not in _TIMES}
    return replace(response, parameters=said)

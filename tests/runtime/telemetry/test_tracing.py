"""How a tracer ends; what its spans say, `tests/edge_agent/test_tracing.py` has, with a real collector."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from runtime.telemetry import tracing
from runtime.telemetry.tracing import Tracer
from runtime.wire.values import InferenceRequest, InferenceResponse

export = pytest.importorskip("opentelemetry.sdk.trace.export", reason="OpenTelemetry is not installed (extra otel)")
PATIENCE_S = 20.0


class Away:
    """An exporter whose collector is away: it tries until it is shut down."""

    def __init__(self) -> None:
        self.tries, self._is_over = threading.Semaphore(0), threading.Event()
        self.was_shut_down_meanwhile: list[bool] = []

    def export(self, spans: Sequence[Any]) -> Any:
        self.tries.release()
        self.was_shut_down_meanwhile.append(self._is_over.wait(PATIENCE_S))
        return export.SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self._is_over.set()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


async def test_an_end_waits_no_longer_for_a_collector_that_is_away_than_it_says(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def infer(request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.model, "1", {})

    monkeypatch.setattr(tracing, "FLUSH_S", 0.1)
    away = Away()
    tracer = Tracer("agent", "1", "edge", away)
    await tracer.around(infer)(InferenceRequest("m", {}))
    with caplog.at_level(logging.WARNING):
        tracer.close()
    assert away.was_shut_down_meanwhile == [True]
    assert "spans were not exported within 0.1 s and are lost" in caplog.text

"""`GET /edgeward/drift`: what a program knows of its models' statistics and drift, one JSON document."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from runtime.serving.observing.recorder import StatisticsRecorder
from runtime.serving.rest.extra_route import Document
from runtime.telemetry.elapsed import elapsed_s

DRIFT_PATH: Final = "/edgeward/drift"


def drift_document(
    program: str, recorder: StatisticsRecorder | None, more: Callable[[], Mapping[str, Any]] | None = None
) -> Document:
    """The document: `models` seen here, and whatever `more` adds. Times in it are by `elapsed_s`, which nobody sets.

    `now` is that clock at the moment of the answer, so that a reader can turn them into ages.
    """

    def read() -> dict[str, object]:
        told: dict[str, Any] = {"recorder": None, "models": []} if recorder is None else recorder.document()
        return {
            "program": program,
            "is_monitoring": recorder is not None,
            "now": elapsed_s(),
            "now_unix": time.time(),
            **told,
            **({} if more is None else more()),
        }

    async def document() -> Mapping[str, object]:
        return await asyncio.to_thread(read)

    return document

"""A gateway for the spool's trial: keys are kept as the real one keeps them, and every execution answers with a number of its own.

So an execution that was repeated shows: its result would differ. Each one is written down before it is answered.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cloud_gateway.idempotency import DEDUPLICATED, Idempotent
from runtime.errors import ModelNotFoundError
from runtime.serving.layered import Layered
from runtime.serving.server import Listening, serve
from runtime.serving.server import run as run_loop
from runtime.serving.settings import ServerSettings
from runtime.store import sqlite_url
from runtime.tensors import TensorSpec
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    ModelState,
    ServerDescription,
)

MODEL = "nonce"


class Nonces:
    """A service with one model, whose answer is its input and a number that never comes twice."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """One execution."""
        nonce = secrets.randbits(62)
        line = json.dumps({"key": request.parameters.get("idempotency_key"), "nonce": nonce}) + "\n"
        os.write(self._log, line.encode())
        outputs = {"value": request.inputs["value"], "nonce": np.array([nonce], np.int64)}
        return InferenceResponse(MODEL, "1", outputs, request.id, {"served_by": "cloud"})

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """Its signature."""
        if name != MODEL:
            raise ModelNotFoundError(f"only {MODEL!r} is here")
        tensors = (TensorSpec("value", "INT64", (-1,)), TensorSpec("nonce", "INT64", (-1,)))
        return ModelDescription(MODEL, ("1",), "nonce", tensors[:1], tensors, 0)

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether that is the model."""
        return name == MODEL

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        """None."""
        return []

    def describe_server(self) -> ServerDescription:
        """What it calls itself."""
        return ServerDescription("spool-gateway", "1", ())

    def is_live(self) -> bool:
        """True."""
        return True

    def is_ready(self) -> bool:
        """True."""
        return True

    def index(self) -> list[IndexEntry]:
        """The model."""
        return [IndexEntry(MODEL, "1", ModelState.READY)]

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Nothing to load."""

    async def unload(self, name: str) -> None:
        """Nothing to unload."""

    async def drain(self) -> None:
        """Nothing waits."""


def run(folder: Path, port: int, on_started: Callable[[Listening], None]) -> None:
    """Serves until it is ended."""

    async def body() -> None:
        nonces = Nonces(folder / "executions")
        once = Idempotent(nonces.infer, sqlite_url(folder / "results.db"))
        settings = ServerSettings(grpc_port=port, http_port=0, shared_memory=False)
        told = os.open(folder / "deduplicated", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        async def infer(request: InferenceRequest) -> InferenceResponse:
            response = await once.infer(request)
            if response.parameters.get(DEDUPLICATED):
                os.write(told, f"{request.parameters.get('idempotency_key')}\n".encode())
            return response

        await serve(Layered(nonces, infer), settings, on_started=on_started)
        await once.close()

    run_loop(body())

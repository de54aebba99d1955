"""The data plane from bytes to bytes, before a model that answers at once: no sockets and no engine.

What is left is what a request costs in `runtime.serving`, `runtime.wire` and `runtime.batching`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from benchmarks.serving.exchange import Exchange, Row, grpc_exchange, rest_binary_exchange
from runtime.backends.base import Overlap, RunOptions
from runtime.bundle.bundle import Bundle, read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.bundle.manifest import Format
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.watch import Watch
from runtime.engine.watch_settings import WatchSettings
from runtime.hardware import Hardware
from runtime.selection.candidates import Candidate
from runtime.selection.choice import Choice, Ranked
from runtime.selection.cost import CostModel
from runtime.selection.latency import Latency
from runtime.selection.settings import Objective
from runtime.serving.controls import Controls
from runtime.serving.grpc.receiving import Receiving
from runtime.serving.grpc.server import InferenceRpcs
from runtime.serving.local_service import LocalService
from runtime.serving.rest.app import rest_app
from runtime.serving.service import InferenceService
from runtime.tensors import Array, TensorSpec

MAX_BYTES = 64 << 20
# gRPC's frame, which a call's bytes no longer have when they reach a handler.
FRAME_BYTES = 5


class DataPlane:
    """Both transports' handlers over one model, on the running event loop; `close` it there."""

    def __init__(self, before: Callable[[LocalService], InferenceService] = lambda local: local) -> None:
        """`before` puts something before the service that runs the model."""
        self._folder = tempfile.TemporaryDirectory(prefix="edgeward-plane-")
        home = Path(self._folder.name)
        row = Row.of_digits()
        bundle = read_bundle(shipped_bundles()["digits"])
        self._engine = _OneModel(_instant_model(bundle, row.probabilities), home)
        self._service = LocalService(self._engine)
        controls = Controls.under(home, MAX_BYTES, None)
        asked = before(self._service)
        self._infer = InferenceRpcs(asked, controls, None, asyncio.Event(), Receiving()).model_infer()
        self._app: ASGIApp = rest_app(asked, controls, max_body_bytes=MAX_BYTES)
        self._message = grpc_exchange(bundle.name, row).body[FRAME_BYTES:]
        self._posted = rest_binary_exchange(bundle.name, row)

    async def close(self) -> None:
        """Lets the model go."""
        await self._service.drain()
        self._service.close()
        self._folder.cleanup()

    async def grpc(self, count: int) -> int:
        """So many calls of ModelInfer one after another; bytes answered."""
        size = 0
        for _ in range(count):
            size += len(await self._infer(self._message, None))
        return size

    async def rest(self, count: int) -> int:
        """So many POSTs with binary tensors one after another; bytes answered."""
        size = 0
        for _ in range(count):
            size += await post(self._app, self._posted)
        return size


async def together(call: Callable[[int], Coroutine[Any, Any, int]], clients: int, count: int) -> int:
    """`call` by so many clients at once, `count` times each; what they add up to."""
    return sum(await asyncio.gather(*(asyncio.create_task(call(count)) for _ in range(clients))))


async def post(app: ASGIApp, exchange: Exchange) -> int:
    """One request as uvicorn hands it over; bytes of the reply's body."""
    headers = [(name.lower().encode(), value.encode()) for name, value in exchange.headers.items()]
    headers.append((b"content-length", b"%d" % len(exchange.body)))
    scope: Scope = {"type": "http", "method": "POST", "path": exchange.path, "headers": headers}
    sent: list[Message] = []
    parts: list[Message] = [{"type": "http.request", "body": exchange.body, "more_body": False}]

    async def receive() -> Message:
        return parts.pop() if parts else await asyncio.Future()  # a client that stays

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise AssertionError(f"the data plane answered {sent}")
    return sum(len(message.get("body", b"")) for message in sent)


class _OneModel(Engine):
    def __init__(self, model: Model, home: Path) -> None:
        super().__init__(EngineSettings(home=home))
        self._models = {model.name: {model.version: model}}


class _Instant:
    """A backend whose models answer with what they are given, without a look at the inputs."""

    name, device, formats = "instant-cpu", "cpu", frozenset(Format)
    overlap = Overlap.SHARED
    passes_nan = True

    def __init__(self, answer: Array) -> None:
        self._answer = answer
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("image", "FP32", (-1, 1, 8, 8)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("probabilities", "FP32", (-1, 10)),)

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        return None

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        return ({},)

    def version(self) -> str:
        return "1"

    def open(self, file: Path, options: RunOptions) -> _Instant:
        return self

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(inputs["image"])
        return {"probabilities": self._answer if rows == 1 else self._answer.repeat(rows, axis=0)}

    def close(self) -> None:
        pass


def _instant_model(bundle: Bundle, answer: Array) -> Model:
    candidate = Candidate(bundle.variants[0], _Instant(answer), RunOptions(1))
    latency = Latency(0.01, 0.01, 0.0, 9, 100)
    cost = CostModel(((1, 0.01), (32, 0.02)))
    ranked = Ranked(candidate, latency, 1, cost, None, None, None, "not measured")
    choice = Choice(bundle.name, bundle.version, Objective.LATENCY, (ranked,), (), "none")
    watch = Watch(WatchSettings(shadow_every=0, recalibrate_every_s=0), lambda *_: choice, lambda: 1)
    return Model(bundle, choice, watch)

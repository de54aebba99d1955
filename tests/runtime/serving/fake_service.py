"""An `InferenceService` without models: fixed small ones that show what a transport hands over and hands back.

    add       OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1 (INT32 [batch, 16])
    echo      its inputs, its parameters, whatever they are
    deadline  seconds left until the request's deadline, -1 without one
    gate      answers once `open_gate` was called
    fail      raises the error of `runtime.errors` that the parameter `error` names
    crash     raises what no service should

Run as a program it serves until SIGTERM and prints its ports as JSON.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping

import numpy as np

from runtime import errors
from runtime.errors import EdgewardError, InvalidInputError, ModelNotFoundError, ModelNotReadyError
from runtime.serving.server import Listening, run, serve
from runtime.serving.settings import ServerSettings
from runtime.tensors import TensorSpec
from runtime.wire.statistics import ModelStatistics, Spent
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    ModelState,
    ServerDescription,
)

MODELS = ("add", "echo", "deadline", "gate", "fail", "crash")
SECRET = "a text that only the log may show"


class FakeService:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        self.withdrawn = asyncio.Semaphore(0)
        self.answered = 0
        self.loaded: list[tuple[str, dict[str, object]]] = []
        self.unloaded: list[str] = []
        self.ready = True
        self.drained = False

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self._check(request.model, request.version)
        outputs: Mapping[str, np.ndarray] = request.inputs
        match request.model:
            case "add":
                if set(request.inputs) != {"INPUT0", "INPUT1"}:
                    raise InvalidInputError(f"got {sorted(request.inputs)}; model 'add' wants INPUT0 and INPUT1")
                a, b = request.inputs["INPUT0"], request.inputs["INPUT1"]
                outputs = {"OUTPUT0": a + b, "OUTPUT1": a - b}
            case "deadline":
                left = -1.0 if request.deadline is None else request.deadline - time.monotonic()
                outputs = {"left_s": np.array([left])}
            case "gate":
                self.begun.release()
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.withdrawn.release()
                    raise
            case "fail":
                raise error_named(str(request.parameters["error"]))
            case "crash":
                raise ValueError(SECRET)
        if request.outputs:
            outputs = {output.name: outputs[output.name] for output in request.outputs}
        self.answered += 1
        return InferenceResponse(request.model, request.version or "1", outputs, request.id, request.parameters)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        self._check(name, version)
        tensors = [TensorSpec(f"{way}{i}", "INT32", (-1, 16)) for way in ("INPUT", "OUTPUT") for i in (0, 1)]
        return ModelDescription(
            name, ("1",), "fake_python", tuple(tensors[:2]), tuple(tensors[2:]), 8, {"variant": "none"}
        )

    async def is_model_ready(self, name: str, version: str) -> bool:
        return name in MODELS and version in ("", "1")

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        if name:
            self._check(name, version)
        names = [name] if name else MODELS
        return [ModelStatistics(name, "1", success=Spent(3, 4_000), queue=Spent(3, 1_000)) for name in names]

    def describe_server(self) -> ServerDescription:
        return ServerDescription("fake", "0.0", ("binary_tensor_data", "model_repository"))

    def is_live(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self.ready and not self.drained

    def index(self) -> list[IndexEntry]:
        ready = [IndexEntry(name, "1", ModelState.READY) for name in MODELS]
        return [*ready, IndexEntry("broken", "1", ModelState.UNAVAILABLE, "its file is gone")]

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        self._check(name, "")
        self.loaded.append((name, dict(parameters)))

    async def unload(self, name: str) -> None:
        self._check(name, "")
        self.unloaded.append(name)

    async def drain(self) -> None:
        self.drained = True

    def _check(self, name: str, version: str) -> None:
        if self.drained:
            raise ModelNotReadyError("this server is shutting down")
        if name not in MODELS or version not in ("", "1"):
            raise ModelNotFoundError(f"no model {name!r} version {version!r} here; there are {', '.join(MODELS)}")


def error_named(name: str) -> EdgewardError:
    kind: type[EdgewardError] = getattr(errors, name)
    if kind is errors.OverloadedError:
        return errors.OverloadedError("OverloadedError was asked for", 2.5)
    return kind(f"{name} was asked for")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--drain-timeout-s", type=float, default=20)
    parser.add_argument("--grpc-front", default="auto")
    settings = ServerSettings(**vars(parser.parse_args()))

    def say(at: Listening) -> None:
        print(json.dumps({"grpc": at.grpc.port, "http": at.http.port}), flush=True)

    async def body() -> None:
        service = FakeService()
        await serve(service, settings, on_started=say)
        print(json.dumps({"answered": service.answered, "drained": service.drained}), flush=True)

    run(body())


if __name__ == "__main__":
    main()

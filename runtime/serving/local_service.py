"""The service that answers from the models of this process: engine and schedulers behind `InferenceService`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from runtime.batching.cut import BatchPolicy
from runtime.batching.rows import batch_key, has_one_key, is_batchable
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.errors import EdgewardError, InvalidInputError, ModelNotReadyError, UnsupportedError
from runtime.serving.outputs import check_requested, select_outputs
from runtime.serving.scheduler import QueueLimits, Scheduler
from runtime.tensors import Array, check_inputs
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Parameters,
    ServedBy,
    ServerDescription,
)

log = logging.getLogger(__name__)

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository")
# How often a request looks for the successor of a version that is replaced under it; a reload takes far longer than a look.
MAX_LOOKUPS = 3

T = TypeVar("T")


class LocalService:
    """Runs requests on the engine of this process. Made and used on one event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str = "edgeward",
        version: str = "",
        served_by: ServedBy = ServedBy.EDGE,
        limits: QueueLimits = QueueLimits(),  # noqa: B008  (frozen)
    ) -> None:
        self.engine = engine
        self._description = ServerDescription(name, version, EXTENSIONS)
        self._served_by = served_by
        self._limits = limits
        self._is_draining = False
        self._workers = ThreadPoolExecutor(max(engine.hardware.cores.threads, 2), thread_name_prefix="edgeward-run")
        # One at a time: two calibrations side by side would measure each other.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="edgeward-load")
        self._lanes: dict[Model, _Lane] = {}

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Checks the request against the model, queues it, and answers with the outputs that were asked for."""
        if self._is_draining:
            raise ModelNotReadyError("this server is shutting down and takes no new requests; retry at another one")
        for _ in range(MAX_LOOKUPS):
            model = self.engine.model(request.model, request.version)
            try:
                with model.hold():
                    return await self._infer_on(model, request)
            except ModelNotReadyError:
                if not self._is_replaced(model, request):
                    raise
        raise ModelNotReadyError(f"model {request.model!r} is being replaced again and again; retry in a moment")

    def predict_wait_s(self, name: str, version: str = "", rows: int = 1) -> float:
        """Predicted seconds until a request of `rows` rows that arrives now is answered here: queue and measured cost.

        `ModelNotFoundError` or `ModelNotReadyError` when it would not be answered at all.
        """
        return self._lane(self.engine.model(name, version)).scheduler.wait_s(rows)

    async def describe_model(self, name: str, version: str) -> ModelDescription:
        """Signature, versions and the choice made here."""
        model = self.engine.model(name, version)
        lane = self._lane(model)
        chosen = model.candidate
        return ModelDescription(
            name=model.name,
            versions=tuple(map(str, self.engine.versions(name))),
            platform=f"{chosen.backend.name.partition('-')[0]}_{chosen.variant.format.value}",
            inputs=model.inputs,
            outputs=model.outputs,
            max_batch_size=self._limits.max_rows if lane.is_batchable else 0,
            parameters=lane.parameters(),
        )

    async def is_model_ready(self, name: str, version: str) -> bool:
        """Whether that model, in that version, is loaded and warm."""
        try:
            self.engine.model(name, version)
        except EdgewardError:
            return False
        return not self._is_draining

    def describe_server(self) -> ServerDescription:
        """Name, version and the extensions served."""
        return self._description

    def is_live(self) -> bool:
        """True: whoever asks reached the event loop."""
        return True

    def is_ready(self) -> bool:
        """False while draining."""
        return not self._is_draining

    def index(self) -> list[IndexEntry]:
        """Every version that was ever asked for, and its state."""
        return self.engine.index()

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Loads a model of the repository again from its source; other requests are served meanwhile."""
        if parameters:
            raise UnsupportedError(
                f"load parameters {sorted(parameters)} are not supported; load {name!r} without parameters"
            )
        await self._off_loop(lambda: self.engine.reload(name))

    async def unload(self, name: str) -> None:
        """Takes a model out of service; requests that were accepted are answered first."""
        await self._off_loop(lambda: self.engine.unload(name))

    async def drain(self) -> None:
        """Takes no new requests and returns once the accepted ones are answered."""
        self._is_draining = True
        await asyncio.gather(*(lane.scheduler.drain() for lane in list(self._lanes.values())))

    def close(self) -> None:
        """Unloads every model and ends the threads; after `drain`."""
        self._loader.shutdown(wait=True, cancel_futures=True)
        self._workers.shutdown(wait=True)
        self.engine.close()

    async def _infer_on(self, model: Model, request: InferenceRequest) -> InferenceResponse:
        rows = check_inputs(model.name, model.inputs, request.inputs)
        if request.outputs:
            check_requested(model.name, model.outputs, request.outputs)
        lane = self._lane(model)
        key: Hashable = None if lane.has_one_key else batch_key(request.inputs)
        outputs: Mapping[str, Array] = await lane.scheduler.run(
            request.inputs, rows, key, request.deadline, _priority(request)
        )
        if request.outputs:
            outputs = select_outputs(outputs, request.outputs, lane.class_names)
        return InferenceResponse(model.name, str(model.version), outputs, request.id, lane.parameters())

    def _is_replaced(self, model: Model, request: InferenceRequest) -> bool:
        try:
            return self.engine.model(request.model, request.version) is not model
        except EdgewardError:
            return False

    def _lane(self, model: Model) -> _Lane:
        lane = self._lanes.get(model)
        if lane is None:
            lane = _Lane(model, self._served_by, self._workers, self._limits)
            self._lanes = {known: its for known, its in self._lanes.items() if not known.is_closed} | {model: lane}
        return lane

    async def _off_loop(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader, job)


class _Lane:
    """One model version as it is served: its scheduler and what every reply of it needs."""

    def __init__(self, model: Model, served_by: ServedBy, workers: ThreadPoolExecutor, limits: QueueLimits) -> None:
        self.is_batchable = is_batchable(model.inputs, model.outputs)
        self.has_one_key = has_one_key(model.inputs)
        self.class_names: Sequence[str] | None = model.bundle.class_names()
        policy = BatchPolicy(max_rows=model.best_batch() if self.is_batchable else 1)
        self.scheduler = Scheduler(model.name, model.run, model.cost_s, policy, workers, limits)
        self._model = model
        self._served_by = served_by
        self._parameters: tuple[int, Parameters] | None = None

    def parameters(self) -> Parameters:
        """Reply parameters: who answered and on what; made anew when the backend in use changes."""
        fallbacks = self._model.fallbacks
        if self._parameters is None or self._parameters[0] != len(fallbacks):
            words: dict[str, bool | int | float | str] = {
                "served_by": self._served_by.value,
                "backend": self._model.serving,
            }
            if fallbacks:
                words["reason"] = fallbacks[-1]
            self._parameters = (len(fallbacks), words)
        return self._parameters[1]


def _priority(request: InferenceRequest) -> int:
    """Triton's `priority` parameter: 1 is the highest, 0 or absent the default (here behind the explicit ones)."""
    value = request.parameters.get("priority", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInputError(f"parameter 'priority' is {value!r}; expected 0 (default) or 1 (highest) and up")
    return value or _DEFAULT_PRIORITY


_DEFAULT_PRIORITY = 1 << 31

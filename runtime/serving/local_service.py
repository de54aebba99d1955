"""The service that answers from the models of this process: engine and schedulers behind `InferenceService`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtime.batching.cut import BatchPolicy
from runtime.batching.rows import batch_key, has_one_key, is_batchable
from runtime.batching.size import rows_to_gather
from runtime.bundle.bundle import Bundle
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.engine.versions import VersionPolicy
from runtime.errors import EdgewardError, InvalidInputError, ModelNotReadyError, UnsupportedError
from runtime.serving.asking import Answer, Withdraw, answer_of
from runtime.serving.limits import QueueLimits
from runtime.serving.load_parameters import BatchOptions, Overrides, decode_overrides
from runtime.serving.observing.observers import Observer, Observers
from runtime.serving.outputs import check_requested, check_typed, select_outputs
from runtime.serving.request_parameters import DEFAULT_PRIORITY, check_parameters, priority_of
from runtime.serving.scheduler import INLINE_LIMIT_S, Asked, Scheduler
from runtime.serving.sequence_controls import with_controls
from runtime.serving.statistics import read_statistics
from runtime.serving.timing import TIMING, Timing, timing_asked
from runtime.serving.uploads import Uploads
from runtime.tensors import Array
from runtime.wire.model_config import config_json
from runtime.wire.statistics import ModelStatistics
from runtime.wire.values import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelDescription,
    Parameters,
    ServedBy,
    ServerDescription,
    ServingPlan,
)

log = logging.getLogger(__name__)

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
    TIMING,
)
"""What models here can do; a server adds what it does whichever they are (see `controls`)."""
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
        limits: QueueLimits = QueueLimits(),
        uploads: Uploads | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.engine = engine
        self.observers = Observers(observers)
        self._uploads = uploads
        self._uploaded: dict[str, Path] = {}
        self._options: dict[str, BatchOptions] = {}
        self._description = ServerDescription(name, version, EXTENSIONS)
        self._served_by = served_by
        self._limits = limits
        self._is_draining = False
        self._workers = ThreadPoolExecutor(max(engine.cores(), 2), thread_name_prefix="edgeward-run")
        # One at a time: two calibrations side by side would measure each other.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="edgeward-load")
        self._lanes: dict[Model, _Lane] = {}

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """`ask`, awaited."""
        return await answer_of(self.ask, request)

    def ask(self, request: InferenceRequest, answer: Answer) -> Withdraw:
        """Checks the request against the model and queues it; the answer has the outputs that were asked for."""
        if self._is_draining:
            raise ModelNotReadyError("this server is shutting down and takes no new requests; retry at another one")
        model = self._held(request)
        try:
            return self._ask(model, request, answer)
        except BaseException:
            model.hold().end()
            raise

    def predict_wait_s(self, name: str, version: str = "", rows: int = 1) -> float:
        """Predicted seconds until a request of `rows` rows that arrives now is answered here: queue and measured cost.

        `ModelNotFoundError` or `ModelNotReadyError` when it would not be answered at all.
        """
        return self._lane(self.engine.model(name, version)).scheduler.wait_s(rows)

    def class_names(self, name: str, version: str = "") -> Sequence[str] | None:
        """One name a class of a model in service here; None where its bundle names none."""
        return self._lane(self.engine.model(name, version)).class_names

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
            max_batch_size=lane.max_batch_size,
            parameters={
                **lane.parameters(),
                "bundle_sha256": model.bundle.digest,
                "variant_sha256": chosen.variant.sha256,
                **model.watched(),
            },
            plan=lane.plan(self.engine.policy(name)),
        )

    def schedulers(self) -> list[tuple[Model, Scheduler]]:
        """Every ready model and the queue before it."""
        return [(model, self._lane(model).scheduler) for model in self.engine.models()]

    def statistics(self, name: str, version: str) -> list[ModelStatistics]:
        """What ready models did since they were loaded."""
        if not name:
            models = self.engine.models()
        elif version or not (numbers := self.engine.versions(name)):
            models = [self.engine.model(name, version)]
        else:
            models = [self.engine.model(name, str(number)) for number in numbers]
        return [
            read_statistics(model.name, str(model.version), self._lane(model).scheduler.statistics) for model in models
        ]

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
        """Loads a model of the repository, again from its source; other requests are served meanwhile.

        What `parameters` override (see `load_parameters`) holds until the next load.
        """
        try:
            await self._load(name, parameters)
        except EdgewardError as error:
            error.args = (f"failed to load {name!r}: {error}",)
            raise

    async def _load(self, name: str, parameters: Mapping[str, object]) -> None:
        overrides = await self._overrides(name, parameters)
        source = await self._off_loop(lambda: self._keep(name, overrides)) if overrides.files else None
        try:
            await self._off_loop(
                lambda: self.engine.reload(name, overrides.versions, source, overrides.batching.instances)
            )
        except EdgewardError:
            if source is not None and source != self._uploaded.get(name):
                self._drop(source)
            raise
        self._options[name] = overrides.batching
        for number in self.engine.versions(name):
            self._lane(self.engine.model(name, str(number))).follow(overrides.batching)
        before = self._uploaded.pop(name, None)
        if source is not None:
            self._uploaded[name] = source
        if before is not None and before != source:
            self._drop(before)

    async def unload(self, name: str) -> None:
        """Takes a model out of service; requests that were accepted are answered first."""
        await self._off_loop(lambda: self.engine.unload(name))

    async def add(self, bundle: Bundle) -> Model:
        """Puts one version in service beside the others of its model; see `Engine.add`."""
        return await self._off_loop(lambda: self.engine.add(bundle))

    async def remove(self, name: str, version: int, reason: str) -> None:
        """Takes one version out of service once its requests are answered; see `Engine.remove`."""
        await self._off_loop(lambda: self.engine.remove(name, version, reason))

    async def drain(self) -> None:
        """Takes no new requests and returns once the accepted ones are answered."""
        self._is_draining = True
        await asyncio.gather(*(lane.scheduler.drain() for lane in list(self._lanes.values())))

    def close(self) -> None:
        """Unloads every model and ends the threads; after `drain`."""
        self._loader.shutdown(wait=True, cancel_futures=True)
        for lane in self._lanes.values():
            lane.close()
        self._workers.shutdown(wait=True)
        self.engine.close()

    def _held(self, request: InferenceRequest) -> Model:
        """The model that is asked for, in use from here on."""
        for _ in range(MAX_LOOKUPS):
            model = self.engine.model(request.model, request.version)
            try:
                model.hold().begin()
            except ModelNotReadyError:
                if not self._is_replaced(model, request):
                    raise
            else:
                return model
        raise ModelNotReadyError(f"model {request.model!r} is being replaced again and again; retry in a moment")

    def _ask(self, model: Model, request: InferenceRequest, answer: Answer) -> Withdraw:
        priority = DEFAULT_PRIORITY
        timing: Timing | None = None
        if request.parameters:
            request = with_controls(request, model.inputs)
        rows = model.check(request.inputs)
        if request.outputs:
            check_requested(model.name, model.outputs, request.outputs)
        lane = self._lane(model)
        if rows > lane.max_rows:
            raise InvalidInputError(
                f"the request has {rows} rows; model {model.name!r} takes at most {lane.max_rows} (its max_batch_size)"
            )
        if request.parameters:
            check_parameters(request.parameters)
            check_typed(model.outputs, request)
            priority = priority_of(request.parameters)
            timing = timing_asked(request.parameters)
        key: Hashable = None if lane.has_one_key else batch_key(request.inputs)
        under_way = _UnderWay(model, lane, self.observers, request, rows, timing, answer)
        under_way.asked = lane.scheduler.ask(
            request.inputs, rows, key, under_way.told, request.deadline, priority, timing
        )
        return under_way.withdraw

    def _is_replaced(self, model: Model, request: InferenceRequest) -> bool:
        try:
            return self.engine.model(request.model, request.version) is not model
        except EdgewardError:
            return False

    def _lane(self, model: Model) -> _Lane:
        lane = self._lanes.get(model)
        if lane is None:
            lane = _Lane(model, self._served_by, self._workers, self._limits)
            lane.follow(self._options.get(model.name, BatchOptions()))
            # One of a model that is going away stays until its last request is answered: who drains waits for it too.
            used = {known: its for known, its in self._lanes.items() if not (known.is_closed and its.scheduler.is_idle)}
            self._lanes = used | {model: lane}
        return lane

    async def _overrides(self, name: str, parameters: Mapping[str, object]) -> Overrides:
        if not parameters:
            return Overrides()
        try:
            now = config_json(await self.describe_model(name, ""))
        except EdgewardError:
            now = None
        overrides = decode_overrides(name, parameters, now, self._limits.max_rows)
        if overrides.files and self._uploads is None:
            raise UnsupportedError(
                "this server takes no model files over the network; whoever runs it can allow that with --allow-model-upload"
            )
        return overrides

    def _keep(self, name: str, overrides: Overrides) -> Path:
        assert self._uploads is not None, "checked with the overrides"
        return self._uploads.keep(name, overrides.files)

    def _drop(self, folder: Path) -> None:
        assert self._uploads is not None, "nothing is uploaded without it"
        self._uploads.drop(folder)

    async def _off_loop(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader, job)


@dataclass(slots=True, eq=False)
class _UnderWay:
    """One request between its check and its answer; the model is in use meanwhile."""

    model: Model
    lane: _Lane
    observers: Observers
    request: InferenceRequest
    rows: int
    timing: Timing | None
    answer: Answer
    asked: Asked | None = None
    """None: not queued yet, or over."""

    def told(self, outputs: Mapping[str, Array] | None, error: EdgewardError | None) -> None:
        """By the scheduler, what came of it."""
        model, request = self.model, self.request
        self.asked = None
        response: InferenceResponse | None = None
        try:
            if outputs is not None:
                response = self._response(model, request, outputs)
        except Exception as wrong:
            self.answer(None, wrong)
        else:
            self.answer(response, error)
        finally:
            model.hold().end()

    def withdraw(self) -> None:
        """Nobody waits any more."""
        asked, self.asked = self.asked, None
        if asked is not None:
            self.lane.scheduler.withdraw(asked)
            self.model.hold().end()

    def _response(self, model: Model, request: InferenceRequest, outputs: Mapping[str, Array]) -> InferenceResponse:
        if self.observers:
            self.observers.tell(model, request, outputs, self.rows)
        if request.outputs:
            outputs = select_outputs(outputs, request.outputs, self.lane.class_names)
        said = self.lane.parameters()
        if self.timing is not None:
            said = self.timing.parameters(said)
        return InferenceResponse(model.name, self.lane.version, outputs, request.id, said)


class _Lane:
    """One model version as it is served: its scheduler and what every reply of it needs."""

    def __init__(self, model: Model, served_by: ServedBy, workers: ThreadPoolExecutor, limits: QueueLimits) -> None:
        self.version = str(model.version)
        self.is_batchable = is_batchable(model.inputs, model.outputs)
        self.has_one_key = has_one_key(model.inputs)
        self.class_names: Sequence[str] | None = model.bundle.class_names()
        self.max_rows = limits.max_rows
        """Of one request; the same as `max_batch_size` where that is not 0."""
        self.max_batch_size = 0
        self._options = BatchOptions()
        self._policy = BatchPolicy()
        self._instances = 1
        self._shared_workers: Executor = workers
        self._workers: Executor = workers
        self.scheduler = Scheduler(
            model.name, model.run, model.cost_s, self._policy, workers, limits, model.run_at_once, model.hold()
        )
        self._limits = limits
        self._model = model
        self._served_by = served_by
        self._parameters: tuple[int, Parameters] | None = None

    def follow(self, options: BatchOptions) -> None:
        """Joins requests as `options` say from now on, and as measured where they say nothing."""
        self._options = options
        chosen = self._limits.max_rows if options.max_batch_size is None else options.max_batch_size
        self.max_batch_size = chosen if self.is_batchable else 0
        self.max_rows = self.max_batch_size or self._limits.max_rows
        if not self.max_batch_size:
            policy = BatchPolicy()
        else:
            worth = rows_to_gather(self._model.measured_rows(), self._model.cost_s, INLINE_LIMIT_S)
            gathered = max((worth, *options.preferred_sizes))
            policy = BatchPolicy(
                max_rows=min(gathered, self.max_rows, self._model.most_rows() or gathered),
                max_delay_s=options.max_queue_delay_us / 1e6,
                preferred_rows=options.preferred_sizes,
            )
        instances = self._model.granted.count
        if policy != self._policy or instances != self._instances:
            workers = self._workers if instances == self._instances else self._workers_for(instances)
            self._policy, self._instances, self._workers = policy, instances, workers
            self.scheduler.follow(policy, instances, workers)

    def _workers_for(self, instances: int) -> Executor:
        """Threads that nobody else takes, where several batches are to run beside each other.

        An executor that is replaced ends its idle threads by itself, and the others when their batch is done.
        """
        if instances == 1:
            return self._shared_workers
        return ThreadPoolExecutor(instances, thread_name_prefix=f"edgeward-run-{self._model.name}")

    def close(self) -> None:
        """Ends the threads that are its own."""
        if self._workers is not self._shared_workers:
            self._workers.shutdown(wait=True)

    def plan(self, versions: VersionPolicy) -> ServingPlan:
        """How this model is served, for its ModelConfig."""
        return ServingPlan(
            latest=versions.latest,
            specific=versions.specific,
            max_queue_delay_us=round(self._policy.max_delay_s * 1e6) if self.max_batch_size else None,
            preferred_batch_sizes=self._policy.preferred_rows,
            device=self._model.candidate.backend.device,
            instances=self._instances,
        )

    def parameters(self) -> Parameters:
        """Reply parameters: who answered and on what; made anew when the backend in use changes."""
        changes, fallback = self._model.changes, self._model.fallback
        if self._parameters is None or self._parameters[0] != changes:
            self.follow(self._options)  # by what it costs now
            words: dict[str, bool | int | float | str] = {
                "served_by": self._served_by.value,
                "backend": self._model.serving,
            }
            if fallback is not None:
                words["reason"] = fallback
            self._parameters = (changes, words)
        return self._parameters[1]

"""What programs that serve models share: which models in their settings, the engine that holds them, and what to say of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from runtime import config
from runtime.engine.engine import Engine, EngineSettings
from runtime.engine.instances import Instances
from runtime.engine.model import Model
from runtime.engine.versions import VersionPolicy
from runtime.engine.watch import RECALIBRATE_EVERY_S, SHADOW_EVERY, WatchSettings
from runtime.errors import EdgewardError, MachineError, WrongUseError
from runtime.selection.settings import Objective, SelectionSettings
from runtime.selection.trying import Progress
from runtime.serving.polling import poll
from runtime.serving.scheduler import MAX_QUEUED_BYTES, MAX_QUEUED_ROWS, QueueLimits
from runtime.serving.server import ServerSettings
from runtime.serving.service import InferenceService
from runtime.serving.statistics_recorder import ROWS_PER_S, StatisticsRecorder, StatisticsSettings
from runtime.serving.uploads import Uploads

log = logging.getLogger(__name__)


def _split(value: object) -> object:
    """An environment variable is one text: "digits,model.onnx"."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _policy(value: object) -> object:
    """As on the command line, "latest:2"."""
    try:
        return VersionPolicy.parse(value) if isinstance(value, str) else value
    except WrongUseError as error:
        raise ValueError(str(error)) from error


def _instances(value: object) -> object:
    """As on the command line, "2" or "2,digits=4"; a number, or in a file a table of numbers by model."""
    try:
        if isinstance(value, dict):
            value = ",".join(f"{name}={count}" for name, count in value.items())
        return Instances.parse(str(value)) if isinstance(value, str | int) else value
    except WrongUseError as error:
        raise ValueError(str(error)) from error


class ModelServerSettings(ServerSettings):
    """A server of models, and what their backends are chosen for."""

    server_name: str | None = Field(default=None, min_length=1, max_length=64)
    """What ServerMetadata calls the server, for clients that look ("triton"); None: the program's own name."""
    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(default=())
    """Names that ship, folders, tars or model files; as a variable, separated by commas."""
    objective: Objective | None = None
    """In place of what each model's manifest asks for; where neither does, latency."""
    threads: int | None = Field(default=None, ge=1)
    """Of one call on the processor, at most; None: what measures fastest alone. Fewer leave cores to calls beside it."""
    instances: Annotated[Instances, BeforeValidator(_instances), PlainSerializer(str)] = Instances()
    """How many batches of one model run at the same time: a number for all, or by name ("2,digits=4")."""
    max_queued_rows: int = Field(default=MAX_QUEUED_ROWS, ge=1)
    """Rows that may wait before one model version; what comes beyond is refused at once. No request may have more rows."""
    max_queued_bytes: int = Field(default=MAX_QUEUED_BYTES, ge=1)
    """Bytes of the inputs that may wait before one model version; a request that finds the queue empty may have more."""
    versions: Annotated[VersionPolicy, BeforeValidator(_policy), PlainSerializer(str)] = VersionPolicy()
    """Which versions of a model are served: latest, latest:N, all or specific:N,N."""
    model_repository: Path | None = None
    """A folder whose sub-folders are models; all of them are served, unless some are named in `models`."""
    poll_s: float | None = Field(default=None, gt=0)
    """How often the model repository is looked at for changes; None: models change by explicit load and unload alone."""
    shadow_every: int = Field(default=SHADOW_EVERY, ge=0)
    """One call of so many is also run on the reference variant, beside the others, and compared; 0: none."""
    recalibrate_every_s: float = Field(default=RECALIBRATE_EVERY_S, ge=0)
    """When a model takes longer than it was measured to, measure again, at most this often; 0: never."""
    allow_model_upload: bool = False
    """Whether a load may bring the model's file; whoever reaches the server can then have it run any model."""
    monitor: bool = True
    """Whether statistics of inputs and outputs are kept, and drift is looked for."""
    monitor_sample: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that is counted, before `monitor_rows_per_s` caps it."""
    monitor_rows_per_s: float = Field(default=ROWS_PER_S, gt=0)
    """Rows counted a second, at most; above, a random share of the requests is."""

    @model_validator(mode="after")
    def _polls_something(self) -> ModelServerSettings:
        if self.poll_s is not None and self.model_repository is None:
            raise ValueError("poll_s is set without model_repository; there is nothing to look at")
        return self

    @property
    def queue_limits(self) -> QueueLimits:
        """What may wait before one model version."""
        return QueueLimits(self.max_queued_rows, self.max_queued_bytes)

    @property
    def has_models(self) -> bool:
        """Whether any model is named, be it by its folder."""
        return bool(self.models) or self.model_repository is not None


def make_engine(settings: ModelServerSettings, progress: Progress | None = None) -> Engine:
    """An engine as the settings say, still empty; `WrongUseError` when its repository is not there."""
    made = Engine(
        EngineSettings(
            selection=SelectionSettings(objective=settings.objective, threads=settings.threads),
            versions=settings.versions,
            repository=settings.model_repository,
            instances=settings.instances,
            watch=WatchSettings(settings.shadow_every, settings.recalibrate_every_s),
        ),
        progress=progress,
    )
    if made.repository is not None:
        made.repository.require()
    return made


def uploads_of(settings: ModelServerSettings) -> Uploads | None:
    """Where uploaded models are kept; None where they are not taken."""
    if not settings.allow_model_upload:
        return None
    log.warning("model upload is allowed: whoever reaches this server can have it run any model")
    return Uploads(config.home() / "uploads")


def recorder_of(settings: ModelServerSettings) -> StatisticsRecorder | None:
    """What keeps statistics, not started yet; None where that is off."""
    if not settings.monitor:
        return None
    return StatisticsRecorder(
        StatisticsSettings(sample=settings.monitor_sample, rows_per_s=settings.monitor_rows_per_s)
    )


@contextmanager
def recording(settings: ModelServerSettings) -> Iterator[StatisticsRecorder | None]:
    """Keeps statistics meanwhile; None where that is off."""
    recorder = recorder_of(settings)
    if recorder is None:
        yield None
        return
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.close()


@asynccontextmanager
async def polling(settings: ModelServerSettings, engine: Engine, service: InferenceService) -> AsyncIterator[None]:
    """Keeps `service` in step with the model repository meanwhile, where the settings ask for that."""
    if settings.poll_s is None or engine.repository is None:
        yield
        return
    served = await asyncio.to_thread(engine.repository.fingerprints)
    looking = asyncio.create_task(poll(service, engine.repository, settings.poll_s, served))
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def load_all(engine: Engine, settings: ModelServerSettings, *, may_lack: bool = False) -> None:
    """Loads the models named (see `load_models`), or every model of the repository where none is.

    Of the repository, one that does not load is said, listed as unavailable, and left out.
    """
    load_models(engine, settings.models, may_lack=may_lack)
    if settings.models or engine.repository is None:
        return
    for name in engine.repository.names():
        try:
            engine.load(name)
        except EdgewardError as error:
            log.warning("model %s of the repository is not served: %s", name, error)


def load_models(engine: Engine, sources: Sequence[str], *, may_lack: bool) -> None:
    """Loads every source. With `may_lack`, one that this machine cannot run is said and left out; without, it raises.

    A source that is broken or not there always raises.
    """
    for source in sources:
        try:
            engine.load(source)
        except MachineError as error:
            if not may_lack:
                raise
            log.warning("%s does not run on this machine, so it is not served here: %s", source, error)


def describe_models(engine: Engine) -> list[dict[str, object]]:
    """Every model version in service as JSON: what answers, why that was chosen, and what one row costs."""
    return [_describe(model) for model in engine.models()]


def _describe(model: Model) -> dict[str, object]:
    return {
        "name": model.name,
        "version": model.version,
        "backend": model.serving,
        "why": model.choice.selected.verdict,
        "row_ms": round(model.cost_s(1) * 1e3, 4),
        "fallbacks": list(model.fallbacks),
        "warnings": list(model.choice.warnings),
        "watch": model.watched(),
    }

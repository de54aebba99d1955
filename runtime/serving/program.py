"""What programs that serve models share: which models in their settings, the engine that holds them, and what to say of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from runtime import config
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.engine.settings import EngineSettings
from runtime.engine.watch_settings import WatchSettings
from runtime.errors import EdgewardError, MachineError
from runtime.selection.settings import Objective, SelectionSettings
from runtime.selection.trying import Progress
from runtime.serving.observing.recorder import StatisticsRecorder
from runtime.serving.observing.settings import StatisticsSettings
from runtime.serving.polling import poll
from runtime.serving.service import InferenceService
from runtime.serving.settings import ModelServerSettings
from runtime.serving.uploads import Uploads

log = logging.getLogger(__name__)


def make_engine(settings: ModelServerSettings, progress: Progress | None = None) -> Engine:
    """An engine as the settings say, still empty; `WrongUseError` when its repository is not there."""
    made = Engine(
        EngineSettings(
            selection=SelectionSettings(
                objective=settings.objective, usual_objective=Objective.EFFICIENCY, threads=settings.threads
            ),
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
        "doubts": list(model.choice.doubts),
        "watch": model.watched(),
    }

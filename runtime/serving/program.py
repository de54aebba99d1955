"""What programs that serve models share: which models in their settings, the engine that holds them, and what to say of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.errors import MachineError
from runtime.selection.settings import Objective
from runtime.serving.server import ServerSettings

log = logging.getLogger(__name__)


def _split(value: object) -> object:
    """An environment variable is one text: "digits,model.onnx"."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class ModelServerSettings(ServerSettings):
    """A server of models, and what their backends are chosen for."""

    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(default=())
    """Names that ship, folders, tars or model files; as a variable, separated by commas."""
    objective: Objective = Objective.LATENCY


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
    }

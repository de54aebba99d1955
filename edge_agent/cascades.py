"""The cascades of a running agent, each fitted on what answers now: another bundle or variant has another threshold.

`of` is asked for every request and costs a look-up. Where something else answers than was fitted (a synced version, a reload, a
calibration that chose anew, a quarantine), there is no cascade until a thread has fitted it; requests go by their policy.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edge_agent.cascade import Cascade, fit
from runtime.engine.engine import Engine
from runtime.engine.model import Model
from runtime.errors import EdgewardError, ModelNotFoundError, ModelNotReadyError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Fitted:
    of: tuple[str, Any]
    """The bundle's digest, and which variant, backend and options."""
    found: Cascade | str
    """A text: why it has none."""


class Cascades:
    """Of the models in `risks`: how many of the local answers that stand may be wrong. Used on one event loop."""

    def __init__(self, engine: Engine, risks: Mapping[str, float]) -> None:
        self._engine = engine
        self._risks = risks
        self._fitted: dict[tuple[str, int], _Fitted] = {}
        self._under_way: set[tuple[str, int]] = set()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgeward-cascade")

    def fit_now(self) -> None:
        """Fits the models that are here, before the first request; `WrongUseError` for one that can have no cascade."""
        for name, risk in self._risks.items():
            with suppress(ModelNotFoundError, ModelNotReadyError):
                model = self._engine.model(name)
                self._keep(model, _what_answers(model), fit(model, risk))

    def of(self, name: str, version: str = "") -> Cascade | str | None:
        """A text: why there is none now, although one is wished for; None: none is wished for, or no such model is here."""
        risk = self._risks.get(name)
        if risk is None:
            return None
        try:
            model = self._engine.model(name, version)
        except EdgewardError:
            return None
        known = self._fitted.get((name, model.version))
        if known is not None and known.of == _what_answers(model):
            return known.found
        if (name, model.version) not in self._under_way:
            self._under_way.add((name, model.version))
            self._worker.submit(self._fit, model, risk)
        return f"no cascade yet: its threshold for {model.serving} of version {model.version} is being fitted"

    def close(self) -> None:
        """Ends the thread; a fit under way is waited for."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _fit(self, model: Model, risk: float) -> None:
        before = _what_answers(model)
        found: Cascade | str
        try:
            found = fit(model, risk)
        except ModelNotReadyError:
            return  # replaced meanwhile: whoever asks next asks for its successor
        except EdgewardError as error:
            found = f"no cascade: {error}"
        except Exception as error:
            found = f"no cascade: fitting it failed ({error!r})"
            log.exception("cascade of model %s", model.name)
        finally:
            self._under_way.discard((model.name, model.version))
        if _what_answers(model) == before:
            self._keep(model, before, found)

    def _keep(self, model: Model, of: tuple[str, Any], found: Cascade | str) -> None:
        told = found if isinstance(found, str) else found.why
        log.info("cascade of model %s version %d on %s: %s", model.name, model.version, model.serving, told)
        served = {model.version, *self._engine.versions(model.name)}
        kept = {place: known for place, known in self._fitted.items() if place[0] != model.name or place[1] in served}
        self._fitted = kept | {(model.name, model.version): _Fitted(of, found)}


def no_cascade(name: str, version: str = "") -> Cascade | str | None:
    """For agents whose models have none."""
    return None


def _what_answers(model: Model) -> tuple[str, Any]:
    return model.bundle.digest, model.candidate.key

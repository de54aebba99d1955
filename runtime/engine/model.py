"""One version of a model, held ready: chosen for this machine, warm, and safe to call from any thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import numpy as np

from runtime.backends.opened import OpenedVariant, open_variant
from runtime.bundle.bundle import Bundle
from runtime.errors import BackendUnavailableError, InvalidInputError, ModelNotReadyError, NoCandidateError
from runtime.selection.candidates import Candidate
from runtime.selection.choice import Choice
from runtime.tensors import Array, TensorSpec, check_inputs, count_elements

log = logging.getLogger(__name__)

# First calls allocate arenas and pick kernels; after the third, times are flat (own measurement, ONNX Runtime 1.32 and LiteRT 2.3).
WARM_UP_CALLS = 3


class Model:
    """Answers `predict` until it is closed. Made by `Engine.load` or `edgeward.load`.

    >>> with edgeward.load("digits") as model:
    ...     probabilities = model.predict(image)["probabilities"]
    """

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        self.bundle = bundle
        self.name = bundle.name
        self.version = bundle.version
        self.choice = choice
        self.fallbacks: list[str] = []
        """A sentence for every time the backend in use vanished and the next candidate took over."""
        self._lock = threading.Lock()
        self._in_use = 0
        self._is_closing = False
        self._none_in_use = threading.Condition(self._lock)
        self._place = 0
        self._opened = self._open_next(0)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Canonical inputs, in the order of the manifest."""
        return self._opened.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Canonical outputs, in the order of the manifest."""
        return self._opened.outputs

    @property
    def candidate(self) -> Candidate:
        """What answers now: the chosen variant, backend and options, or the next one where that backend vanished."""
        return self.choice.ranked[self._place].candidate

    @property
    def serving(self) -> str:
        """`candidate` in words: "fp32.onnx on onnxruntime-cpu, 1 thread"."""
        return str(self.candidate)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; calls in flight may still be ending."""
        return self._is_closing

    def predict(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        """The outputs by name, [batch, ...], for inputs by name (or one array, where the model has one input).

        Inputs are checked, never converted: `InvalidInputError` names what does not fit. `ExecutionError` when the engine
        fails. When its device vanishes the next candidate takes over and answers; see `fallbacks`.
        """
        if not isinstance(inputs, Mapping):
            inputs = self._named(inputs)
        check_inputs(self.name, self._opened.inputs, inputs)
        with self.hold():
            return self.run(inputs)

    def hold(self) -> _Hold:
        """`with model.hold():` keeps the model open; for callers that check, queue and `run` in steps of their own.

        `ModelNotReadyError` when it is being closed; its successor, if there is one, is in the engine's table by then.
        """
        return _Hold(self)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`predict` without the check and the hold, for callers that have made them."""
        opened = self._opened
        try:
            return opened.predict(inputs)
        except BackendUnavailableError as error:
            return self._fall_back(opened, error).predict(inputs)

    def warm_up(self) -> float:
        """Runs the model a few times on zeros and returns the last call's seconds; a free dimension is taken as 1."""
        inputs = {spec.name: _zeros(spec) for spec in self.inputs}
        took_s = 0.0
        with self.hold():
            for _ in range(WARM_UP_CALLS):
                started = time.perf_counter()
                self.run(inputs)
                took_s = time.perf_counter() - started
        return took_s

    def cost_s(self, rows: int) -> float:
        """Measured seconds of one call of `rows` rows, on what answers now."""
        return self.choice.ranked[self._place].cost.cost_ms(rows) / 1000

    def best_batch(self) -> int:
        """The measured number of rows with the most rows a second."""
        return self.choice.ranked[self._place].cost.best_batch()

    def close(self, timeout_s: float = 30.0) -> None:
        """Waits for holds and calls in flight (at most `timeout_s`), then gives the engine's memory back. Closing twice is fine."""
        with self._lock:
            already = self._is_closing
            self._is_closing = True
            if already:
                return
            if not self._none_in_use.wait_for(lambda: self._in_use == 0, timeout_s):
                log.error(
                    "model %s version %d: %d calls are unanswered after %.0f s; its memory is kept",
                    self.name,
                    self.version,
                    self._in_use,
                    timeout_s,
                )
                return
        self._opened.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _named(self, value: Array) -> dict[str, Array]:
        if len(self.inputs) != 1:
            names = ", ".join(repr(spec.name) for spec in self.inputs)
            raise InvalidInputError(
                f"model {self.name!r} has {len(self.inputs)} inputs ({names}); give a mapping of name to array"
            )
        return {self.inputs[0].name: np.asarray(value)}

    def _fall_back(self, failed: OpenedVariant, error: BackendUnavailableError) -> OpenedVariant:
        """The next candidate, opened; whichever thread comes first opens it for all."""
        with self._lock:
            if self._opened is failed:
                before = self.serving
                self._opened = self._open_next(self._place + 1, error)
                sentence = f"{before} is gone ({error}); {self.serving} took over"
                self.fallbacks.append(sentence)
                log.error("model %s version %d: %s", self.name, self.version, sentence)
            return self._opened

    def _open_next(self, first: int, cause: BackendUnavailableError | None = None) -> OpenedVariant:
        """The first candidate from rank `first` on whose device is there."""
        for place in range(first, len(self.choice.ranked)):
            candidate = self.choice.ranked[place].candidate
            try:
                opened = open_variant(self.bundle, candidate.variant, candidate.backend, candidate.options)
            except BackendUnavailableError as error:
                cause = error
                log.error("model %s version %d: %s cannot be opened: %s", self.name, self.version, candidate, error)
                continue
            self._place = place
            return opened
        raise NoCandidateError(
            f"model {self.name!r} version {self.version}: none of its {len(self.choice.ranked)} candidates opens any more; "
            "calibrate again"
        ) from cause


class _Hold:
    """A use of a model, counted; `close` waits until the count is zero."""

    __slots__ = ("_model",)

    def __init__(self, model: Model) -> None:
        self._model = model

    def __enter__(self) -> None:
        model = self._model
        with model._lock:
            if model._is_closing:
                raise ModelNotReadyError(
                    f"model {model.name!r} version {model.version} is being unloaded; load it again"
                )
            model._in_use += 1

    def __exit__(self, *exc: object) -> None:
        model = self._model
        with model._lock:
            model._in_use -= 1
            if model._in_use == 0 and model._is_closing:
                model._none_in_use.notify_all()


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    if spec.dtype == np.object_:
        return np.full(count_elements(shape), b"0", dtype=np.object_).reshape(shape)
    return np.zeros(shape, spec.dtype)

"""One version of a model, held ready: chosen for this machine, warm, and safe to call from any thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from runtime.backends.base import Overlap
from runtime.backends.opened import OpenedVariant, open_variant
from runtime.bundle.bundle import Bundle
from runtime.engine.in_service import InService
from runtime.engine.instances import Granted, grant
from runtime.engine.tally import Switch, SwitchReason
from runtime.engine.watch import Watch
from runtime.errors import (
    BackendUnavailableError,
    EdgewardError,
    InvalidInputError,
    ModelNotReadyError,
    NoCandidateError,
)
from runtime.selection.candidates import CPU, Candidate
from runtime.selection.choice import Choice, Ranked
from runtime.tensors import Array, InputCheck, TensorSpec, count_elements

log = logging.getLogger(__name__)

# First calls allocate arenas and pick kernels; after the third, times are flat (own measurement, ONNX Runtime 1.32 and LiteRT 2.3).
WARM_UP_CALLS = 3
# The first call is what the first caller would wait for anyway; a large model need not make everybody wait for three.
WARM_UP_S = 0.02


class Model:
    """Answers `predict` until it is closed. Made by `Engine.load` or `edgeward.load`.

    >>> with edgeward.load("digits") as model:
    ...     probabilities = model.predict(image)["probabilities"]
    """

    def __init__(
        self,
        bundle: Bundle,
        choice: Choice,
        watch: Watch | None = None,
        instances: int = 1,
        memory_cap_mb: float | None = None,
    ) -> None:
        """`instances`: how many calls are to run at the same time, see `granted`; all of them stay under `memory_cap_mb`."""
        self.bundle = bundle
        self.name = bundle.name
        self.version = bundle.version
        self.watch = watch
        self.fallbacks: list[str] = []
        """A sentence for every time what answers vanished or proved wrong, and the next candidate took over."""
        self.fallback: str | None = None
        """The last of them, while what took over then answers; None once a calibration has chosen again."""
        self.changes = 0
        """Times that what answers, or what is known of its cost, was replaced."""
        self.switches: Counter[Switch] = Counter()
        """Times that another candidate took over, by which ones and why."""
        self._uses: list[None] = []
        """One for every use under way. Lists grow and shrink atomically, so that a call takes no lock for it."""
        self._is_closing = False
        self._none_in_use = threading.Condition()
        self._hold = _Hold(self)
        self._switching = threading.Lock()
        """Held while something else is put in service; calls never wait for it unless what they use is gone."""
        self._instances = instances
        self._memory_cap_mb = memory_cap_mb
        self._quarantined: set[tuple[str, str]] = set()
        self._lost: set[str] = set()
        """Devices that vanished since a calibration last chose."""
        self._service, passed_over = self._open_next(choice, 0)
        if passed_over is not None:  # a device that was there when this was measured
            self._note_fallback(f"{passed_over}; {self._service.ranked.candidate} took over")
            switch = Switch(choice.selected.candidate.key, self._service.ranked.candidate.key, SwitchReason.LOST)
            self.switches[switch] += 1
        self._check = InputCheck(self.name, self.inputs)
        self._counted = next((spec.name for spec in self.inputs if spec.is_batched), None)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Canonical inputs, in the order of the manifest."""
        return self._service.opened.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Canonical outputs, in the order of the manifest."""
        return self._service.opened.outputs

    @property
    def opened(self) -> OpenedVariant:
        """What answers now, as its engine opened it."""
        return self._service.opened

    @property
    def choice(self) -> Choice:
        """What may run here, in order of preference; replaced when it is measured again."""
        return self._service.choice

    @property
    def candidate(self) -> Candidate:
        """What answers now: the chosen variant, backend and options, or the next one where that is out of service."""
        return self._service.ranked.candidate

    @property
    def serving(self) -> str:
        """`candidate` in words: "fp32.onnx on onnxruntime-cpu, 1 thread"."""
        return str(self.candidate)

    @property
    def granted(self) -> Granted:
        """How many calls run at the same time on what answers now; callers beyond that wait for each other."""
        return self.grant(self._instances)

    @property
    def instances(self) -> int:
        """How many calls were asked to run at the same time, whatever is granted of them."""
        return self._instances

    def grant(self, instances: int) -> Granted:
        """The same, were so many asked for."""
        service = self._service
        return grant(instances, service.opened.session.overlap, service.ranked.memory, self._memory_cap_mb)

    def set_instances(self, count: int) -> None:
        """Lets `count` calls run at the same time from now on, or as many as can, without a failed call.

        May take as long as opening does; errors of that leave everything as it was.
        """
        with self._switching:
            before, was = self._service, self._instances
            if count == was or self._is_closing:
                return
            self._instances = count
            if before.opened.session.overlap is not Overlap.OWN:
                self.changes += 1
                return
            try:
                service, passed_over = self._open_next(before.choice, before.place, is_warm=True)
            except EdgewardError:
                self._instances = was
                raise
            fallback = self.fallback
            self._replace(service, passed_over and f"{passed_over}; {service.ranked.candidate} took over")
            self.fallback = self.fallback or fallback

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; calls in flight may still be ending."""
        return self._is_closing

    def predict(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        """The outputs by name, [batch, ...], for inputs by name (or one array, where the model has one input).

        Inputs are checked, never converted: `InvalidInputError` names what does not fit. `ExecutionError` when the engine
        fails. When its device vanishes the next candidate takes over and answers; see `fallbacks`.
        """
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            inputs = self._named(inputs)
        self._check.rows(inputs)
        with self._hold:
            return self.run(inputs)

    def check(self, inputs: Mapping[str, Array]) -> int:
        """The number of rows of `inputs`; `InvalidInputError` names what does not fit."""
        return self._check.rows(inputs)

    def hold(self) -> _Hold:
        """`with model.hold():` keeps the model open; for callers that check, queue and `run` in steps of their own.

        `ModelNotReadyError` when it is being closed; its successor, if there is one, is in the engine's table by then.
        """
        return self._hold

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`predict` without the check and the hold, for callers that have made them."""
        service = self._service
        try:
            return self._run_on(service, inputs)
        except BackendUnavailableError as error:
            return self._run_on_next(service, inputs, error)

    def run_at_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`run` for an event loop: `BackendUnavailableError` where `run` would first open what takes over, which takes long."""
        return self._run_on(self._service, inputs)

    def _run_on(self, service: InService, inputs: Mapping[str, Array]) -> dict[str, Array]:
        watch = self.watch
        began = None if watch is None else watch.enter(service.claim)
        try:
            outputs = service.opened.predict(inputs)
        except BaseException:
            if watch is not None:
                watch.leave(service.claim, None, 0)
            raise
        if watch is None:
            return outputs
        rows = 1 if self._counted is None else len(inputs[self._counted])
        if watch.leave(service.claim, began, rows) and service is self._service:
            watch.look(self, service, inputs, outputs)
        return outputs

    def _run_on_next(
        self, failed: InService, inputs: Mapping[str, Array], error: BackendUnavailableError
    ) -> dict[str, Array]:
        """The answer of the first candidate after `failed` that still gives one; `NoCandidateError` when there is none left."""
        while True:
            service = self._fall_back(failed, error)
            try:
                return self._run_on(service, inputs)
            except BackendUnavailableError as next_error:
                failed, error = service, next_error

    def warm_up(self) -> float:
        """Runs the model a few times on zeros and returns the last call's seconds; a free dimension is taken as 1."""
        with self.hold():
            return _warm_up(self.run, self.inputs, self.granted.count)

    def cost_s(self, rows: int) -> float:
        """Measured seconds of one call of `rows` rows, on what answers now."""
        return self._service.ranked.cost.cost_ms(rows) / 1000

    def p95_s(self) -> float | None:
        """Measured seconds that 95 % of calls of one row stay within, on what answers now; None: another number was measured."""
        ranked = self._service.ranked
        return ranked.latency.p95_ms / 1000 if ranked.rows == 1 else None

    def best_batch(self) -> int:
        """The measured number of rows with the most rows a second."""
        return self._service.ranked.cost.best_batch()

    def measured_rows(self) -> tuple[int, ...]:
        """The numbers of rows that calls were measured with, ascending, on what answers now."""
        return self._service.ranked.cost.rows

    def most_rows(self) -> int | None:
        """What may be joined to one batch under the memory cap; None where there is no cap."""
        granted = self.granted
        return self._service.ranked.max_rows if granted.count == 1 else granted.max_rows

    def close(self, timeout_s: float = 30.0) -> None:
        """Waits for holds and calls in flight (at most `timeout_s`), then gives the engine's memory back. Closing twice is fine."""
        with self._none_in_use:
            already = self._is_closing
            self._is_closing = True
            if already:
                return
            if not self._none_in_use.wait_for(lambda: not self._uses, timeout_s):
                log.error(
                    "model %s version %d: %d calls are unanswered after %.0f s; its memory is kept",
                    self.name,
                    self.version,
                    len(self._uses),
                    timeout_s,
                )
                return
        if self.watch is not None:
            self.watch.close()
        with self._switching:
            self._service.close()

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

    def admissible(self, choice: Choice) -> Choice:
        """`choice` without what was taken out of service here for its answers; as it is when that leaves nothing."""
        ranked = tuple(r for r in choice.ranked if r.candidate.pair not in self._quarantined)
        return replace(choice, ranked=ranked) if ranked else choice

    def adopt(self, choice: Choice, reason: str) -> bool:
        """Answers by `choice` from now on, without a failed call; whether that is another candidate than before.

        What cannot be opened, or fails while it is warmed up, leaves everything as it is. May take as long as opening does.
        """
        with self._switching:
            if self._is_closing:
                return False
            self._lost.clear()  # what was just measured was there
            before = self._service
            if choice.selected.candidate.key == before.ranked.candidate.key:
                self._replace(before.measured_anew(choice, 0), reason=SwitchReason.MEASURED_AGAIN)
                return False
            try:
                service = self._open_warm(choice)
            except EdgewardError as error:
                log.error("model %s version %d: %s stays in service: %s", self.name, self.version, self.serving, error)
                return False
            self._replace(service, reason=SwitchReason.MEASURED_AGAIN)
        log.warning(
            "model %s version %d: %s took over from %s (%s)",
            self.name,
            self.version,
            service.ranked.candidate,
            before.ranked.candidate,
            reason,
        )
        return service.ranked.candidate.key != before.ranked.candidate.key

    def quarantine(self, candidate: Candidate, reason: str) -> bool:
        """Takes the variant and backend of `candidate` out of service for their answers; whether another one took over."""
        with self._switching:
            before = self._service
            if self._is_closing or before.ranked.candidate.pair != candidate.pair:
                return False
            self._quarantined.add(candidate.pair)
            try:
                service = self._open_warm(before.choice)
            except EdgewardError as error:
                self._quarantined.discard(candidate.pair)
                log.error(
                    "model %s version %d: %s stays in service although %s: %s",
                    self.name,
                    self.version,
                    candidate,
                    reason,
                    error,
                )
                return False
            self._replace(
                service,
                f"{candidate} is in quarantine ({reason}); {service.ranked.candidate} took over",
                SwitchReason.QUARANTINED,
            )
        return True

    def _fall_back(self, failed: InService, error: BackendUnavailableError) -> InService:
        """The next candidate, opened; whichever thread comes first opens it for all."""
        with self._switching:
            if self._service is failed:
                gone = failed.ranked.candidate
                self._note_lost(gone)
                service, passed_over = self._open_next(failed.choice, failed.place + 1, error, is_warm=True)
                parts = (f"{gone} is gone ({error})", passed_over, f"{service.ranked.candidate} took over")
                self._replace(service, "; ".join(part for part in parts if part))
            return self._service

    def _note_lost(self, candidate: Candidate) -> None:
        """Whatever else is for its device need not be opened any more. The processor is never lost, only an engine on it."""
        if candidate.backend.device != CPU:
            self._lost.add(candidate.backend.device)

    def _replace(
        self, service: InService, fallback: str | None = None, reason: SwitchReason = SwitchReason.LOST
    ) -> None:
        """Puts `service` in service; `fallback`: a sentence, where that is second best."""
        before, after = self._service.ranked.candidate.key, service.ranked.candidate.key
        if before != after:
            self.switches[Switch(before, after, reason)] += 1
        self._service = service
        self.fallback = None
        if fallback is not None:
            self._note_fallback(fallback)
        self.changes += 1

    def _note_fallback(self, sentence: str) -> None:
        self.fallback = sentence
        self.fallbacks.append(sentence)
        log.error("model %s version %d: %s", self.name, self.version, sentence)

    def _open_warm(self, choice: Choice) -> InService:
        return self._open_next(choice, 0, is_warm=True)[0]

    def _open_next(
        self, choice: Choice, first: int, cause: EdgewardError | None = None, *, is_warm: bool = False
    ) -> tuple[InService, str | None]:
        """The first candidate from rank `first` on whose device is there, and which is not in quarantine; warmed up if asked.

        And a sentence on those before it that cannot be opened, None where there are none.
        """
        # With `cause` a caller waits for an answer and nothing is left to go back to: whatever is wrong, the next is tried.
        is_bearable = BackendUnavailableError if cause is None else EdgewardError
        passed_over: list[str] = []
        for place in range(first, len(choice.ranked)):
            ranked = choice.ranked[place]
            candidate = ranked.candidate
            if candidate.pair in self._quarantined or candidate.backend.device in self._lost:
                continue
            try:
                opened = self._open(ranked, is_warm)
            except is_bearable as error:
                cause = error
                passed_over.append(f"{candidate} cannot be opened ({error})")
                log.error("model %s version %d: %s", self.name, self.version, passed_over[-1])
                continue
            return InService(choice, place, opened), "; ".join(passed_over) or None
        lost = f" (lost: {', '.join(sorted(self._lost))})" if self._lost else ""
        raise NoCandidateError(
            f"model {self.name!r} version {self.version}: none of its {len(choice.ranked)} candidates opens any more{lost}; "
            "calibrate again"
        ) from cause

    def _open(self, ranked: Ranked, is_warm: bool) -> OpenedVariant:
        candidate = ranked.candidate

        def instances(overlap: Overlap) -> int:
            return grant(self._instances, overlap, ranked.memory, self._memory_cap_mb).count

        opened = open_variant(self.bundle, candidate.variant, candidate.backend, candidate.options, instances)
        if is_warm:
            try:
                _warm_up(opened.predict, opened.inputs, instances(opened.session.overlap))
            except BaseException:
                opened.close()
                raise
        return opened


class _Hold:
    """Notes every use of a model, one for all of them; `close` waits until none is left.

    A use is noted first and checked for a `close` after that, and ends by the same order, so that either the use sees
    that the model is closing or `close` sees the use.
    """

    __slots__ = ("_model",)

    def __init__(self, model: Model) -> None:
        self._model = model

    def begin(self) -> None:
        """For a use that ends elsewhere, with `end`; `ModelNotReadyError` when the model is being closed."""
        model = self._model
        model._uses.append(None)
        if model._is_closing:
            self.end()
            raise ModelNotReadyError(f"model {model.name!r} version {model.version} is being unloaded; load it again")

    def again(self) -> None:
        """Another use beside one that lasts, also of a model that is being closed; ends with `end`."""
        self._model._uses.append(None)

    def end(self) -> None:
        """Ends one use."""
        model = self._model
        model._uses.pop()
        if model._is_closing and not model._uses:
            with model._none_in_use:
                model._none_in_use.notify_all()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *exc: object) -> None:
        self.end()


def _warm_up(run: Callable[[Mapping[str, Array]], object], specs: Sequence[TensorSpec], instances: int) -> float:
    """Runs each of a model's instances on zeros, a few times where that takes no time; the last call's seconds.

    One after the other: those with sessions of their own take turns.
    """
    inputs = {spec.name: _zeros(spec) for spec in specs}
    return [_warm_up_one(run, inputs) for _ in range(instances)][-1]


def _warm_up_one(run: Callable[[Mapping[str, Array]], object], inputs: Mapping[str, Array]) -> float:
    began = time.perf_counter()
    took_s = 0.0
    for _ in range(WARM_UP_CALLS):
        started = time.perf_counter()
        run(inputs)
        ended = time.perf_counter()
        took_s = ended - started
        if ended - began > WARM_UP_S:
            break
    return took_s


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    if spec.dtype == np.object_:
        return np.full(count_elements(shape), b"0", dtype=np.object_).reshape(shape)
    return np.zeros(shape, spec.dtype)

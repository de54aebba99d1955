"""One version of a model, held ready: chosen for this machine, warm, and safe to call from any thread."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from runtime.backends.opened import OpenedVariant
from runtime.bundle.bundle import Bundle
from runtime.engine.grant import Granted
from runtime.engine.in_service import InService
from runtime.engine.succession import Succession
from runtime.engine.tally import Switch
from runtime.engine.uses import Uses
from runtime.engine.warm_up import warm_up
from runtime.engine.watch import Watch
from runtime.errors import BackendUnavailableError, InvalidInputError
from runtime.selection.candidates import Candidate
from runtime.selection.choice import Choice
from runtime.tensors import Array, TensorSpec

log = logging.getLogger(__name__)


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
        self._uses = Uses(f"model {self.name!r} version {self.version} is closed; load it again")
        self._succession = Succession(bundle, choice, self._uses, instances, memory_cap_mb)
        opened = self._succession.service.opened
        self._check, self._counted = opened.check, opened.first_batched

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Canonical inputs, in the order of the manifest."""
        return self._succession.service.opened.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Canonical outputs, in the order of the manifest."""
        return self._succession.service.opened.outputs

    @property
    def opened(self) -> OpenedVariant:
        """What answers now, as its engine opened it."""
        return self._succession.service.opened

    @property
    def choice(self) -> Choice:
        """What may run here, in order of preference; replaced when it is measured again."""
        return self._succession.service.choice

    @property
    def candidate(self) -> Candidate:
        """What answers now: the chosen variant, backend and options, or the next one where that is out of service."""
        return self._succession.service.ranked.candidate

    @property
    def serving(self) -> str:
        """`candidate` in words: "fp32.onnx on onnxruntime-cpu, 1 thread"."""
        return str(self.candidate)

    @property
    def fallbacks(self) -> Sequence[str]:
        """A sentence for every time what answers vanished or proved wrong, and the next candidate took over."""
        return self._succession.fallbacks

    @property
    def fallback(self) -> str | None:
        """The last of them, while what took over then answers; None once a calibration has chosen again."""
        return self._succession.fallback

    @property
    def changes(self) -> int:
        """Times that what answers, or what is known of its cost, was replaced."""
        return self._succession.changes

    @property
    def switches(self) -> Counter[Switch]:
        """Times that another candidate took over, by which ones and why."""
        return self._succession.switches

    def watched(self) -> dict[str, int | str]:
        """What its watch found and did, as `WatchTotals.to_dict`, and how often another candidate took over; {} without a watch."""
        return {} if self.watch is None else {**self.watch.totals.to_dict(), "switches": self.switches.copy().total()}

    @property
    def granted(self) -> Granted:
        """How many calls run at the same time on what answers now; callers beyond that wait for each other."""
        return self._succession.grant(self.instances)

    @property
    def instances(self) -> int:
        """How many calls were asked to run at the same time, whatever is granted of them."""
        return self._succession.instances

    def grant(self, instances: int) -> Granted:
        """The same as `granted`, were so many asked for."""
        return self._succession.grant(instances)

    def set_instances(self, count: int) -> None:
        """See `Succession.set_instances`."""
        self._succession.set_instances(count)

    def admissible(self, choice: Choice) -> Choice:
        """See `Succession.admissible`."""
        return self._succession.admissible(choice)

    def present(self, choice: Choice) -> Choice:
        """See `Succession.present`."""
        return self._succession.present(choice)

    def adopt(self, choice: Choice, reason: str) -> bool:
        """See `Succession.adopt`."""
        return self._succession.adopt(choice, reason)

    def quarantine(self, candidate: Candidate, reason: str) -> bool:
        """See `Succession.quarantine`."""
        return self._succession.quarantine(candidate, reason)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; calls in flight may still be ending."""
        return self._uses.is_closing

    def predict(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        """The outputs by name, [batch, ...], for inputs by name (or one array, where the model has one input).

        Inputs are checked, never converted: `InvalidInputError` names what does not fit. `ExecutionError` when the engine
        fails. When its device vanishes the next candidate takes over and answers; see `fallbacks`.
        """
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            inputs = self._named(inputs)
        self._check.rows(inputs)
        self._uses.begin()  # not by `with`, which takes 0.7 µs of every call
        try:
            return self.run(inputs)
        finally:
            self._uses.end()

    def check(self, inputs: Mapping[str, Array]) -> int:
        """The number of rows of `inputs`; `InvalidInputError` names what does not fit."""
        return self._check.rows(inputs)

    def hold(self) -> Uses:
        """`with model.hold():` keeps the model open; for callers that check, queue and `run` in steps of their own.

        `ModelNotReadyError` when it is being closed; its successor, if there is one, is in the engine's table by then.
        """
        return self._uses

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`predict` without the check and the hold, for callers that have made them."""
        service = self._succession.service
        try:
            return self._run_on(service, inputs)
        except BackendUnavailableError as error:
            return self._run_on_next(service, inputs, error)

    def run_at_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`run` for an event loop: `BackendUnavailableError` where `run` would first open what takes over, which takes long."""
        return self._run_on(self._succession.service, inputs)

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
        rows = 1 if began is None or self._counted is None else len(inputs[self._counted])
        if watch.leave(service.claim, began, rows) and service is self._succession.service:
            watch.look(self, service, inputs, outputs)
        return outputs

    def _run_on_next(
        self, failed: InService, inputs: Mapping[str, Array], error: BackendUnavailableError
    ) -> dict[str, Array]:
        """The answer of the first candidate after `failed` that still gives one; `NoCandidateError` when there is none left."""
        while True:
            service = self._succession.fall_back(failed, error)
            try:
                return self._run_on(service, inputs)
            except BackendUnavailableError as next_error:
                failed, error = service, next_error

    def warm_up(self) -> float:
        """Runs the model a few times on zeros and returns the last call's seconds; a free dimension is taken as 1."""
        with self.hold():
            return warm_up(self.run, self.inputs, self.opened.session.overlap, self.granted.count)

    def cost_s(self, rows: int) -> float:
        """Measured seconds of one call of `rows` rows, on what answers now."""
        return self._succession.service.ranked.cost.cost_ms(rows) / 1000

    def p95_s(self) -> float | None:
        """Measured seconds that 95 % of calls of one row stay within, on what answers now; None: another number was measured."""
        ranked = self._succession.service.ranked
        return ranked.latency.p95_ms / 1000 if ranked.rows == 1 else None

    def best_batch(self) -> int:
        """The measured number of rows with the most rows a second."""
        return self._succession.service.ranked.cost.best_batch()

    def measured_rows(self) -> tuple[int, ...]:
        """The numbers of rows that calls were measured with, ascending, on what answers now."""
        return self._succession.service.ranked.cost.rows

    def most_rows(self) -> int | None:
        """What may be joined to one batch under the memory cap; None where there is no cap."""
        granted = self.granted
        return self._succession.service.ranked.max_rows if granted.count == 1 else granted.max_rows

    def close(self, timeout_s: float = 30.0) -> None:
        """Waits for holds and calls in flight (at most `timeout_s`), then gives the engine's memory back. Closing twice is fine."""
        unanswered = self._uses.close(timeout_s)
        if unanswered is None:
            return
        if unanswered:
            log.error(
                "model %s version %d: %d calls are unanswered after %.0f s; its memory is kept",
                self.name,
                self.version,
                unanswered,
                timeout_s,
            )
            return
        if self.watch is not None:
            self.watch.close()
        self._succession.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else self.serving
        return f"<Model {self.name!r} version {self.version}: {state}>"

    def _named(self, value: Array) -> dict[str, Array]:
        if len(self.inputs) != 1:
            names = ", ".join(repr(spec.name) for spec in self.inputs)
            raise InvalidInputError(
                f"model {self.name!r} has {len(self.inputs)} inputs ({names}); give a mapping of name to array"
            )
        name = self.inputs[0].name
        if value is None:  # numpy makes an array of one object of it
            raise InvalidInputError(f"input {name!r} is None; expected an array")
        return {name: np.asarray(value)}

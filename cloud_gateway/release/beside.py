"""The version that did not have the caller, asked as well: many requests at once, or one of so many alone, on both versions.

Those alone are what latencies and the noise floor are measured by. Which of the two goes first a coin decides, each time: the first
run after a pause takes twice as long, and no rhythm of requests may give that to one of them more often.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from cloud_gateway.guards import Arm
from cloud_gateway.release.comparison import Comparison, compare, compare_all
from cloud_gateway.release.mirrored import Mirrored, Offered
from cloud_gateway.release.second_copy import SecondCopy
from runtime.batching.rows import batch_key, has_one_key, is_batchable, join, split
from runtime.bundle.manifest import Task
from runtime.engine.model import Model
from runtime.errors import EdgewardError, ModelNotReadyError
from runtime.tensors import Array

log = logging.getLogger(__name__)


class Beside:
    """Runs and compares, on its caller's thread. `ModelNotReadyError` where one of the two is being unloaded."""

    def __init__(
        self, stable: Model, candidate: Model, twice_every: int, *, times_candidate: bool, has_copy: bool
    ) -> None:
        """As a `Mirror` is told."""
        self.is_batchable = is_batchable(candidate.inputs, candidate.outputs)
        self._stable = stable
        self._second = SecondCopy(stable, is_wanted=has_copy)
        self._candidate = candidate
        self._task = Task.GENERIC if candidate.bundle.manifest is None else candidate.bundle.manifest.task
        self._names = [spec.name for spec in candidate.outputs]
        self._has_one_key = has_one_key(candidate.inputs)
        self._twice_every = twice_every
        self._times_candidate = times_candidate

    @property
    def noise_from(self) -> str:
        """What stable is compared with for the noise floor."""
        return self._second.noise_from

    def is_alone(self, item: Offered) -> bool:
        """Whether it is run on both versions, for their latencies and the noise floor."""
        if item.answered is Arm.STABLE:
            return self._twice_every > 0 and item.number % self._twice_every == 0
        return self._times_candidate and not item.failure

    def key(self, item: Offered) -> Hashable:
        """Equal for requests that may share a batch."""
        return item.answered, None if self._has_one_key else batch_key(item.inputs)

    def results(self, taken: Sequence[Offered]) -> Iterator[Mirrored]:
        """Of each as soon as there is one, in the order of `taken`: of those that run alone, then of those that share a batch.

        Behind the batch the version that ran it would be warm, and the other one not. Nothing is run ahead: who asks for no more
        ends it.
        """
        for item in taken:
            if self.is_alone(item):
                yield from self._attempt(self._run_on_both, [item])
        together = [item for item in taken if not self.is_alone(item)]
        at_once = self._attempt(self._run_at_once, together) if len(together) > 1 else []
        yield from at_once
        for item in [] if at_once else together:
            yield from self._attempt(self._run, [item])

    def close(self) -> None:
        """The second copy's memory goes."""
        self._second.close()

    def _attempt(self, run: Callable[[list[Offered]], list[Mirrored]], items: list[Offered]) -> list[Mirrored]:
        try:
            return run(items)
        except ModelNotReadyError:
            raise
        except Exception as error:  # outermost loop of a thread; the request's caller has its answer
            log.error(
                "a mirrored request of model %s failed in an unforeseen way", self._candidate.name, exc_info=error
            )
            return [_failed(item, repr(error)) for item in items]

    def _run_at_once(self, batch: list[Offered]) -> list[Mirrored]:
        """None of them where one may be at fault: each is to be run by itself."""
        try:
            joined = self._asked(batch[0]).predict(join([item.inputs for item in batch]))
            answers = split(joined, [item.rows for item in batch])
        except ModelNotReadyError:
            raise
        except EdgewardError:
            return []
        return [] if answers is None else self._compared(batch, answers)

    def _asked(self, item: Offered) -> Model:
        """The version that did not have the caller."""
        return self._candidate if item.answered is Arm.STABLE else self._stable

    def _run(self, items: list[Offered]) -> list[Mirrored]:
        """The one item."""
        (item,) = items
        try:
            return self._compared(items, [self._asked(item).predict(item.inputs)])
        except ModelNotReadyError:
            raise
        except EdgewardError as error:
            return [_failed(item, str(error))]

    def _run_on_both(self, items: list[Offered]) -> list[Mirrored]:
        """The one item."""
        (item,) = items
        took: dict[bool, float] = {}
        answers: dict[bool, Mapping[str, Array]] = {}
        stable = self._second.model() if item.answered is Arm.STABLE else self._stable
        for is_candidate in random.choice(((True, False), (False, True))):  # noqa: S311  (a coin, no secret)
            began = time.perf_counter()
            try:
                answers[is_candidate] = (self._candidate if is_candidate else stable).predict(item.inputs)
            except ModelNotReadyError:
                raise
            except EdgewardError as error:
                if is_candidate is (item.answered is Arm.STABLE):
                    return [_failed(item, str(error))]
                return self._run(items)  # who had the caller failed this time: there is no second answer
            took[is_candidate] = time.perf_counter() - began
        [compared] = self._compared(items, [answers[item.answered is Arm.STABLE]])
        noise = None
        if item.answered is Arm.STABLE and item.outputs is not None:
            noise = self._noise(item.outputs, answers[False])
        return [replace(compared, timed=(took[False], took[True]), noise=noise)]

    def _noise(self, first: Mapping[str, Array], again: Mapping[str, Array]) -> Comparison | None:
        """Stable twice: nearly always the same to the bit, which is a tenth of the work to see."""
        if first and all(name in again and _is_same(value, again[name]) for name, value in first.items()):
            return Comparison(agrees=True, distance=0.0)
        return compare(self._task, self._names, first, again)

    def _compared(self, items: list[Offered], answers: Sequence[Mapping[str, Array]]) -> list[Mirrored]:
        """Each with what the version said to it that did not have the caller."""
        pairs = [
            None
            if item.outputs is None
            else ((item.outputs, said) if item.answered is Arm.STABLE else (said, item.outputs))
            for item, said in zip(items, answers, strict=True)
        ]
        found = iter(compare_all(self._task, self._names, [pair for pair in pairs if pair is not None]))
        return [
            Mirrored(
                item.request_id,
                item.segment,
                None if item.outputs is None else next(found),
                item.outputs if item.answered is Arm.STABLE else said,
                said if item.answered is Arm.STABLE else item.outputs,
                item.failure or None,
                answered=item.answered,
                about=item.about,
            )
            for item, said in zip(items, answers, strict=True)
        ]


def _is_same(one: Array, other: Array) -> bool:
    return (
        one.dtype == other.dtype
        and one.dtype.kind != "O"
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )


def _failed(item: Offered, error: str) -> Mirrored:
    """Whoever was asked here failed."""
    if item.answered is Arm.STABLE:
        return Mirrored(item.request_id, item.segment, None, item.outputs, None, error, about=item.about)
    failure = item.failure or None
    return Mirrored(
        item.request_id,
        item.segment,
        None,
        None,
        item.outputs,
        failure,
        error,
        answered=item.answered,
        about=item.about,
    )

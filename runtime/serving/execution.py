"""One batch carried out: inputs joined, the model run once, answers taken apart; who fails, fails alone.

Blocks; called on the event loop for models faster than a thread hop, and on worker threads for the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from runtime.batching.rows import join, split
from runtime.errors import BackendUnavailableError, EdgewardError, ExecutionError
from runtime.serving.statistics import Took
from runtime.tensors import Array

log = logging.getLogger(__name__)

Predict = Callable[[Mapping[str, Array]], dict[str, Array]]
Answers = list[dict[str, Array] | BaseException]
"""Of each request of a batch, in order: its outputs, or why it has none."""


class BatchRunner:
    """Runs batches of one model."""

    def __init__(self, name: str) -> None:
        self.keeps_rows_apart = True
        """False once a batch came back with another number of rows than went in: such a model is not batched again."""
        self._name = name

    def run(
        self, predict: Predict, requests: Sequence[Mapping[str, Array]], rows: Sequence[int]
    ) -> tuple[Answers, Took]:
        """Every request's outputs or error by `predict`, and what it took; `rows`: how many each request has.

        What ends the batch as a whole is raised: `BackendUnavailableError` when nothing is there to run on.
        """
        together = self._try_together(predict, requests, rows) if len(requests) > 1 else None
        if together is not None:
            return together
        started = time.perf_counter_ns()
        answers: Answers = [_run_alone(predict, inputs) for inputs in requests]
        return answers, (0, time.perf_counter_ns() - started, 0)

    def _try_together(
        self, predict: Predict, requests: Sequence[Mapping[str, Array]], rows: Sequence[int]
    ) -> tuple[Answers, Took] | None:
        """None when the batch as a whole failed: each request is then run alone, so that only the culprit fails."""
        started = time.perf_counter_ns()
        try:
            inputs = join(requests)
            joined = time.perf_counter_ns()
            outputs = predict(inputs)
        except ExecutionError as error:
            log.warning(
                "model %s: a batch of %d requests failed (%s); running them one by one",
                self._name,
                len(requests),
                error,
            )
            return None
        ran = time.perf_counter_ns()
        answers = split(outputs, rows)
        if answers is None:
            shapes = {name: list(value.shape) for name, value in outputs.items()}
            log.warning(
                "model %s: outputs %s do not keep the batch's rows apart; requests run one by one from now on",
                self._name,
                shapes,
            )
            self.keeps_rows_apart = False
            return None
        return list(answers), (joined - started, ran - joined, time.perf_counter_ns() - ran)


def _run_alone(predict: Predict, inputs: Mapping[str, Array]) -> dict[str, Array] | BaseException:
    try:
        return predict(inputs)
    except BackendUnavailableError:
        raise
    except Exception as error:
        return error


def as_ours(name: str, error: BaseException) -> EdgewardError:
    """The error for the caller; one that nobody foresaw is logged and wrapped."""
    if isinstance(error, EdgewardError):
        return error
    log.error("model %s failed in an unforeseen way", name, exc_info=error)
    wrapped = ExecutionError(f"model {name!r} failed: {type(error).__name__}; the server's log has the details")
    wrapped.__cause__ = error
    return wrapped

"""Who answers a batch job's rows: a model in this process, or a server elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from runtime.errors import EdgewardError
from runtime.row_files.block import InputSpec
from runtime.tensors import Array, TensorSpec

# What a server of ours is asked at a time where nothing was measured: small enough to queue beside real-time requests.
REMOTE_ROWS: Final = 64
# At least, of a model in this process: calibration measures up to 32, and on a busy machine may take 1 for the best. What a call
# and a block cost beside the rows is then small. By rows and bytes alone, so that every run of a job has the same batches.
LOCAL_ROWS: Final = 64
LOCAL_BYTES: Final = 64 << 20
# A batch is given up after so long; a server that restarts, or a link that is down, is often back sooner.
PATIENCE_S: Final = 60.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


class Predictor(Protocol):
    """Answers rows, always in the same way while `identity` is the same."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str:
        """The model's version."""

    @property
    def serving(self) -> str:
        """What answers, for people."""

    @property
    def identity(self) -> str:
        """What the answers depend on; a job that was broken off goes on only where it is the same."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What rows have to hold."""

    @property
    def batch_rows(self) -> int:
        """The rows of a call that make the most rows a second."""

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, [row, ...]; errors of `runtime.errors`."""


class LocalPredictor:
    """A model of this process: `runtime.engine.model.Model`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.name: str = model.name
        self.version = str(model.version)

    @property
    def serving(self) -> str:
        """Variant, backend and threads."""
        return str(self._model.serving)

    @property
    def identity(self) -> str:
        """The bundle's bytes and what runs them."""
        return f"{self._model.bundle.digest} {self._model.serving}"

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The manifest's inputs, with their ranges."""
        return with_ranges(self._model.inputs, self._model.bundle)

    @property
    def batch_rows(self) -> int:
        """As the model's shape fixes it, or as measured and `LOCAL_ROWS` at least, within `LOCAL_BYTES`."""
        fitting = LOCAL_BYTES // max(sum(spec.row_bytes() for spec in self._model.inputs), 1)
        return fixed_rows(self._model.inputs) or max(int(self._model.best_batch()), min(LOCAL_ROWS, fitting), 1)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's own answer."""
        outputs: dict[str, Array] = self._model.predict(inputs)
        return outputs


class RemotePredictor:
    """A model behind any server of the protocol, through a client; waits for one that is away for a while.

    `route`: where an agent has the rows answered (auto, edge, cloud); `address`: the server's, for people.
    """

    def __init__(self, client: Any, model: str, route: str, address: str, bundle: Any = None) -> None:
        description = client.model(model)
        self.name = model
        self.version: str = description.versions[-1] if description.versions else ""
        self.identity = f"{model} {self.version} {route}"
        self.inputs: tuple[InputSpec, ...] = with_ranges(description.inputs, bundle)
        most = description.max_batch_size
        self.batch_rows: int = fixed_rows(description.inputs) or (min(REMOTE_ROWS, most) if most else REMOTE_ROWS)
        self._client = client
        self._route = route
        self._address = address
        self._rows_by: Counter[str] = Counter()

    @property
    def serving(self) -> str:
        """The server, and who answered how many rows, as far as its replies said."""
        who = "; ".join(
            name if len(self._rows_by) == 1 else f"{name} ({rows:,} rows)" for name, rows in self._rows_by.most_common()
        )
        return f"{self._address}, route {self._route}" + (f", answered by {who}" if who else "")

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The server's answer."""
        return patiently(lambda: self._ask(inputs))

    def _ask(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        reply = self._client.predict(self.name, inputs, version=self.version, route=self._route)
        said = [str(reply.parameters[key]) for key in ("served_by", "backend") if key in reply.parameters]
        if said:
            self._rows_by[": ".join(said)] += len(next(iter(inputs.values())))
        return dict(reply.outputs)


def patiently(
    ask: Callable[[], dict[str, Array]],
    patience_s: float = PATIENCE_S,
    pause: Callable[[float], object] = time.sleep,
) -> dict[str, Array]:
    """The answer, asked for again while it may still come; the last error after `patience_s`."""
    end = time.monotonic() + patience_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return ask()
        except EdgewardError as error:
            if not error.retryable or time.monotonic() + pause_s > end:
                raise
        pause(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def with_ranges(specs: tuple[TensorSpec, ...], bundle: Any) -> tuple[InputSpec, ...]:
    """Inputs with the ranges that the bundle's manifest declares; without a manifest there are none."""
    declared: dict[str, tuple[float, float] | None] = {}
    if bundle is not None and bundle.manifest is not None:
        for tensor in bundle.manifest.inputs:
            declared[tensor.name] = None if tensor.range is None else (float(tensor.range[0]), float(tensor.range[1]))
    return tuple(InputSpec(spec, declared.get(spec.name)) for spec in specs)


def fixed_rows(specs: tuple[TensorSpec, ...]) -> int | None:
    """The rows of every call where a shape fixes them; None where the batch is free."""
    if all(spec.is_batched for spec in specs):
        return None
    return max(1, specs[0].shape[0]) if specs[0].shape else 1

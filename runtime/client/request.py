"""From `predict`'s arguments to a request: arrays by name, choices checked, size capped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np

from runtime.errors import InvalidInputError, PayloadTooLargeError
from runtime.tensors import Array, TensorSpec, datatype_of
from runtime.wire.values import InferenceRequest, Parameter, Parameters, Privacy, RequestedOutput, Route

# Both ways, as our servers have it. gRPC's own 4 MiB is seven 224 × 224 float images; what is beyond 64 MiB holds up
# everybody behind it and is better split into batches.
MAX_MESSAGE_BYTES = 64 * 2**20

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Options:
    """What `predict` puts into a request beside model and inputs."""

    version: str
    outputs: Sequence[str | RequestedOutput]
    parameters: Parameters | None
    route: Route | str | None
    privacy: Privacy | str | None
    id: str

    def __post_init__(self) -> None:
        if isinstance(self.outputs, str):  # a sequence too: of its letters
            raise InvalidInputError(
                f"outputs is {self.outputs!r}; expected a sequence of names, such as outputs=[{self.outputs!r}]"
            )


def version_text(version: object) -> str:
    """A version as the protocol has it, from the text or the integer that manifests have; "" is the newest one."""
    if isinstance(version, str):
        return version
    if isinstance(version, (int, np.integer)) and not isinstance(version, bool):
        return str(int(version))
    raise InvalidInputError(
        f"version is {version!r}; expected an integer such as 1 or a text such as '1', or '' for the newest"
    )


def build_request(model: str, inputs: Mapping[str, Any], options: Options) -> InferenceRequest:
    """The request that `predict` sends; `InvalidInputError` for what no server could take."""
    parameters: dict[str, Parameter] = dict(options.parameters or {})
    if options.route is not None:
        parameters["route"] = _choice(Route, options.route)
    if options.privacy is not None:
        parameters["privacy"] = _choice(Privacy, options.privacy)
    return InferenceRequest(
        model=model,
        inputs={name: _as_tensor(name, value) for name, value in inputs.items()},
        version=options.version,
        id=options.id,
        outputs=tuple(RequestedOutput(o) if isinstance(o, str) else o for o in options.outputs),
        parameters=parameters,
    )


def check_size(inputs: Mapping[str, Array]) -> None:
    """`PayloadTooLargeError` for a request that is over the cap before it is even encoded."""
    size = sum(value.nbytes for value in inputs.values())
    if size > MAX_MESSAGE_BYTES:
        raise PayloadTooLargeError(
            f"the inputs take {size} bytes; a message holds at most {MAX_MESSAGE_BYTES}; send fewer rows at a time"
        )


class InputNames:
    """The name of the one input of each model asked so far, so that a bare array can be sent without asking again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def get(self, model: str, version: str) -> str | None:
        """The name, where it has been learnt."""
        return self._known.get((model, version))

    def learn(self, model: str, version: str, inputs: Sequence[TensorSpec]) -> str:
        """Keeps and returns the name; `InvalidInputError` when the model has not exactly one input."""
        if len(inputs) != 1:
            names = ", ".join(repr(spec.name) for spec in inputs) or "none"
            raise InvalidInputError(
                f"model {model!r} has {len(inputs)} inputs ({names}); give a mapping of input name to array"
            )
        self._known[model, version] = inputs[0].name
        return inputs[0].name

    def forget(self, model: str, version: str) -> None:
        """Asks anew next time: the model may have been replaced by one with another signature."""
        self._known.pop((model, version), None)


def _as_tensor(name: str, value: object) -> Array:
    if value is None:  # numpy makes an array of one object of it
        raise InvalidInputError(f"input {name!r} is None; expected an array, or numbers in nested lists")
    try:
        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        datatype_of(array.dtype)
    except (ValueError, InvalidInputError) as error:
        raise InvalidInputError(f"input {name!r} makes no tensor: {error}") from error
    return array


def _choice(kind: type[_Choice], value: str) -> str:
    try:
        return kind(value).value
    except ValueError:
        expected = " or ".join(repr(member.value) for member in kind)
        raise InvalidInputError(f"{kind.__name__.lower()} is {value!r}; expected {expected}") from None

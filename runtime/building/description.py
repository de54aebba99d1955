"""From a source's own tensors to the canonical ones, and from those to where they lie in a variant's own. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.building.request import BuildRequest, InputRequest, OutputRequest
from runtime.building.rows import RowFile
from runtime.bundle.manifest import Mapping as VariantMapping
from runtime.bundle.manifest import Tensor, TensorMapping
from runtime.bundle.preprocessing import Cast, ChangeLayout, Resize, Step, spec_after
from runtime.errors import BundleError, InvalidInputError, WrongUseError
from runtime.tensors import Array, TensorSpec, datatype_of, show_shape

Scales = Mapping[str, tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Described:
    """A model file's own tensors, and (scale, zero point) of the quantised ones by their name."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    scales: Scales = field(default_factory=dict)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch it takes, None when it is free; `BundleError` where its tensors have no batch in common."""
        sizes: set[int] = set()
        for what, spec in [("input", s) for s in self.inputs] + [("output", s) for s in self.outputs]:
            if not spec.shape:
                raise BundleError(
                    f"{what} {spec.name!r} has no shape; export the model with a batch as the first dimension of every tensor"
                )
            sizes.add(spec.shape[0])
        sizes.discard(-1)
        if len(sizes) > 1:
            shapes = ", ".join(f"{s.name!r} {show_shape(s.shape)}" for s in (*self.inputs, *self.outputs))
            raise BundleError(
                f"its tensors have no batch in common: {shapes}; a model that is measured row by row has the batch first in "
                "every input and output, also in those that carry a state"
            )
        return sizes.pop() if sizes else None


def described_from(found: Mapping[str, Any]) -> Described:
    """What `sessions.describe` returned."""
    inputs, outputs = (
        tuple(TensorSpec(one["name"], one["datatype"], tuple(one["shape"])) for one in found[what])
        for what in ("inputs", "outputs")
    )
    scales: dict[str, tuple[float, int]] = {}
    for what, specs in (("inputs", inputs), ("outputs", outputs)):
        for place, (scale, zero_point) in found.get("quantisation", {}).get(what, {}).items():
            scales[specs[int(place)].name] = (scale, zero_point)
    return Described(inputs, outputs, scales)


@dataclass(frozen=True, slots=True)
class Signature:
    """The canonical tensors, and the source's own name of each."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    own_names: Mapping[str, str]
    """By canonical name with its side, such as "input image"."""
    rows: dict[str, Array]
    """By canonical input."""


def make_signature(request: BuildRequest, described: Described, rows: RowFile) -> Signature:
    """What callers see; `WrongUseError` when request, rows and model do not fit one another."""
    asked_in = _by_own_name("input", request.inputs, described.inputs)
    asked_out = _by_own_name("output", request.outputs, described.outputs)
    if request.preprocess:
        if len(described.inputs) != 1:
            raise WrongUseError(
                f"the model has the inputs {_names(described.inputs)}; declare the preprocessing of each in a TOML file"
            )
        (only,) = described.inputs
        name, asked = asked_in.get(only.name, (only.name, InputRequest()))
        asked_in[only.name] = (name, asked.model_copy(update={"preprocess": request.preprocess}))
    named_in = [(spec, *asked_in.get(spec.name, (spec.name, InputRequest()))) for spec in described.inputs]
    named_out = [(spec, *asked_out.get(spec.name, (spec.name, OutputRequest()))) for spec in described.outputs]
    arrays = rows.of([name for _, name, _ in named_in])
    inputs = tuple(_input(name, spec, described.scales, asked, arrays[name]) for spec, name, asked in named_in)
    outputs = tuple(_output(name, spec, described.scales, asked) for spec, name, asked in named_out)
    own_names = {f"input {name}": spec.name for spec, name, _ in named_in}
    own_names |= {f"output {name}": spec.name for spec, name, _ in named_out}
    fitted = {tensor.name: _fitted(arrays[tensor.name], tensor.spec, rows.where) for tensor in inputs}
    return Signature(inputs, outputs, own_names, fitted)


def mapping_onto(signature: Signature, described: Described) -> VariantMapping:
    """Where the canonical tensors lie in a variant's own; `BundleError` where one has no place."""
    sides = {}
    for side, tensors, own in (
        ("input", signature.inputs, described.inputs),
        ("output", signature.outputs, described.outputs),
    ):
        if len(own) != len(tensors):
            raise BundleError(f"it has {len(own)} {side}s ({_names(own)}), the source has {len(tensors)}")
        wanted = [signature.own_names[f"{side} {tensor.name}"] for tensor in tensors]
        places = {
            tensor.name: _place(tensor.model_spec, spec, described.scales.get(spec.name))
            for tensor, spec in zip(tensors, _in_order(wanted, own), strict=True)
        }
        # What lies in the variant just as callers see it is left out.
        sides[side] = {name: place for name, place in places.items() if place != TensorMapping(name=name)}
    return VariantMapping(inputs=sides["input"], outputs=sides["output"])


def _by_own_name(what: str, asked: Mapping[str, Any], own: Sequence[TensorSpec]) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for name, one in asked.items():
        own_name = getattr(one, f"model_{what}") or name
        if own_name not in {spec.name for spec in own}:
            raise WrongUseError(f"the model has no {what} {own_name!r}; its {what}s are {_names(own)}")
        found[own_name] = (name, one)
    return found


def _input(name: str, own: TensorSpec, scales: Scales, asked: InputRequest, array: Array) -> Tensor:
    wanted = TensorSpec(name, "FP32" if own.name in scales else own.datatype, (-1, *own.shape[1:]))
    if asked.preprocess:
        datatype = asked.datatype or _datatype(name, array)
        shape = asked.shape or _free_size((-1, *array.shape[1:]), asked.preprocess[0])
    else:
        datatype, shape = asked.datatype or wanted.datatype, asked.shape or wanted.shape
    try:
        given = TensorSpec(name, datatype, shape)
        after = spec_after(given, asked.preprocess)
    except ValueError as error:
        raise WrongUseError(f"{error}; mend the preprocessing") from error
    if not _fits(after, wanted) or (not asked.preprocess and not _is_like(array, given)):
        sent = TensorSpec(name, _datatype(name, array), (-1, *array.shape[1:]))
        what = after if asked.preprocess else sent
        raise WrongUseError(
            f"input {name!r} is {sent} in the rows"
            + (f" and {after} after the declared preprocessing" if asked.preprocess else "")
            + f"; the model wants {wanted}{_suggestion(what, wanted)}"
        )
    return Tensor(
        name=name, datatype=datatype, shape=shape, meaning=asked.meaning, range=asked.range, preprocess=asked.preprocess
    )


def _output(name: str, own: TensorSpec, scales: Scales, asked: OutputRequest) -> Tensor:
    datatype = "FP32" if own.name in scales else own.datatype
    return Tensor(name=name, datatype=datatype, shape=(-1, *own.shape[1:]), meaning=asked.meaning, range=asked.range)


def _free_size(shape: tuple[int, ...], first: Step) -> tuple[int, ...]:
    """Images that are resized first may have any size."""
    if not isinstance(first, Resize) or len(shape) != 4:
        return shape
    return (-1, -1, -1, shape[3]) if first.layout == "NHWC" else (-1, shape[1], -1, -1)


def _fits(after: TensorSpec, wanted: TensorSpec) -> bool:
    return after.datatype == wanted.datatype and _same_shape(after.shape[1:], wanted.shape[1:])


def _same_shape(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _is_like(array: Array, spec: TensorSpec) -> bool:
    """Whether rows may stand for `spec`: the same shape, and a datatype of the same kind."""
    same_kind = array.dtype.kind == spec.dtype.kind or array.dtype == spec.dtype
    return same_kind and _same_shape(array.shape[1:], spec.shape[1:])


def _fitted(array: Array, spec: TensorSpec, where: str) -> Array:
    if array.dtype != spec.dtype and array.dtype.kind == spec.dtype.kind:
        array = array.astype(spec.dtype)
    if array.dtype != spec.dtype or not _same_shape(array.shape[1:], spec.shape[1:]):
        raise WrongUseError(
            f"{where} has {spec.name!r} as {array.dtype} {show_shape((-1, *array.shape[1:]))}, "
            f"but callers are to send {spec}; give rows as callers send them"
        )
    return array


def _suggestion(sent: TensorSpec, wanted: TensorSpec) -> str:
    """Steps that would make the one of the other, in their short forms."""
    layouts: list[tuple[list[Step], list[str]]] = [([], [])]
    if len(sent.shape) == 4:
        layouts += [([ChangeLayout(to="NCHW")], ["layout:NCHW"]), ([ChangeLayout(to="NHWC")], ["layout:NHWC"])]
    for steps, words in layouts:
        try:
            after = spec_after(sent, [*steps, Cast(datatype=wanted.datatype)])
        except ValueError:
            continue
        if _same_shape(after.shape[1:], wanted.shape[1:]):
            if sent.datatype != wanted.datatype:
                words = [*words, f"cast:{wanted.datatype}"]
            said = " ".join(f"--preprocess {word}" for word in words)
            return (
                f"; declare how one becomes the other, such as {said} (and scale or normalise, where it was trained so)"
            )
    return "; declare the steps between them with --preprocess (see edgeward bundle build --help)"


def _datatype(name: str, array: Array) -> str:
    try:
        return datatype_of(array.dtype)
    except InvalidInputError as error:
        raise WrongUseError(f"the rows of input {name!r}: {error}") from error


def _in_order(wanted: Sequence[str], own: Sequence[TensorSpec]) -> list[TensorSpec]:
    """`own` in the order of the source's names: by name, by the numbers converters give (`args_0`), else by place."""
    by_name = {spec.name: spec for spec in own}
    if set(wanted) == set(by_name):
        return [by_name[name] for name in wanted]
    numbers = [re.fullmatch(r"(?:args|output|input)_(\d+)", spec.name) for spec in own]
    if all(numbers):
        return sorted(own, key=lambda spec: int(spec.name.rpartition("_")[2]))
    return list(own)


def _place(model: TensorSpec, own: TensorSpec, scale: tuple[float, int] | None) -> TensorMapping:
    said: dict[str, Any] = {"name": own.name}
    if scale is not None:
        said |= {"datatype": own.datatype, "scale": scale[0], "zero_point": scale[1]}
    elif own.datatype != model.datatype:
        said["datatype"] = own.datatype
    rest, own_rest = model.shape[1:], own.shape[1:]
    if not _same_shape(rest, own_rest):
        if len(rest) == 3 and _same_shape((rest[1], rest[2], rest[0]), own_rest):
            said["transpose"] = (0, 2, 3, 1)
        elif len(rest) == 3 and _same_shape((rest[2], rest[0], rest[1]), own_rest):
            said["transpose"] = (0, 3, 1, 2)
        elif -1 not in (*rest, *own_rest) and math.prod(rest) == math.prod(own_rest):
            said["shape"] = (-1, *own_rest)
        else:
            raise BundleError(f"{model.name!r} {model} has no place in its {own.name!r} {own}")
    return TensorMapping(**said)


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} {spec}" for spec in specs)

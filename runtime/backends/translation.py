"""How a variant's own tensors and a bundle's canonical ones become each other: checked and worked out once for a file.

To do so takes a tenth of what a small session takes to open, and comes out the same at every load of the same bundle.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from runtime.backends.base import Session
from runtime.backends.mapping import from_own, to_own
from runtime.backends.nan_rows import NanRows, swallows_nan
from runtime.backends.preprocess import Step, steps_of
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import TensorMapping, Variant
from runtime.errors import BundleError
from runtime.tensors import InputCheck, TensorSpec

MAX_KNOWN: Final = 64
"""Of which the last translation is remembered."""


class Translation:
    """Of one variant whose engine gives it `own_in` and `own_out`; never changed. `BundleError` where they do not fit."""

    def __init__(
        self,
        bundle: Bundle,
        variant: Variant,
        own_in: tuple[TensorSpec, ...],
        own_out: tuple[TensorSpec, ...],
        passes_nan: bool,
    ) -> None:
        self.inputs, self.outputs = own_in, own_out
        """Canonical ones: the manifest's, or the engine's own where a bare file has no manifest."""
        self.preprocess: dict[str, Step] = {}
        """By canonical input, of those that have steps."""
        model_in = self.inputs
        if bundle.manifest is not None:
            declared = bundle.manifest.inputs
            self.inputs = tuple(tensor.spec for tensor in declared)
            self.outputs = tuple(tensor.spec for tensor in bundle.manifest.outputs)
            model_in = tuple(tensor.model_spec for tensor in declared)
            steps = {tensor.name: steps_of(tensor.spec, tensor.preprocess) for tensor in declared}
            self.preprocess = {name: step for name, step in steps.items() if step is not None}
        mapped_in = {s.name: variant.mapping.inputs.get(s.name) or _same(s.name) for s in self.inputs}
        mapped_out = {s.name: variant.mapping.outputs.get(s.name) or _same(s.name) for s in self.outputs}
        ins, outs = {spec.name: spec for spec in own_in}, {spec.name: spec for spec in own_out}
        _check_names(bundle, variant, "input", {m.name for m in mapped_in.values()}, set(ins), exactly=True)
        _check_names(bundle, variant, "output", {m.name for m in mapped_out.values()}, set(outs), exactly=False)
        for spec in model_in:
            _check_fit(bundle, variant, spec, mapped_in[spec.name], ins[mapped_in[spec.name].name], "input")
        for spec in self.outputs:
            _check_fit(bundle, variant, spec, mapped_out[spec.name], outs[mapped_out[spec.name].name], "output")
        self.check = InputCheck(bundle.name, self.inputs)
        self.batched_in = [s.name for s in self.inputs if s.is_batched]
        # None where an output does not follow the batch and has to be computed anyway.
        self.counted = self.batched_in[0] if self.batched_in and all(s.is_batched for s in self.outputs) else None
        """The input whose rows are counted."""
        self.to_own = [(s.name, mapped_in[s.name].name, to_own(s, mapped_in[s.name])) for s in model_in]
        self.from_own = [(s.name, mapped_out[s.name].name, from_own(s, mapped_out[s.name])) for s in self.outputs]
        """Canonical name, own name, and what is done between them."""
        self.nan_rows = NanRows(model_in, self.outputs) if swallows_nan(variant, passes_nan, model_in) else None
        self.is_same_in = all(name == own and step is None for name, own, step in self.to_own)
        self.is_same_out = all(name == own and step is None for name, own, step in self.from_own) and len(outs) == len(
            self.outputs
        )


def translation_of(bundle: Bundle, variant: Variant, session: Session) -> Translation:
    """That of `variant` as its engine opened it."""
    own_in, own_out = tuple(session.inputs), tuple(session.outputs)
    passes_nan = session.passes_nan
    which = id(bundle), id(variant)
    known = _KNOWN.get(which)
    if known is not None and known[2:5] == (own_in, own_out, passes_nan):
        return known[5]
    made = Translation(bundle, variant, own_in, own_out, passes_nan)
    if len(_KNOWN) >= MAX_KNOWN:
        _KNOWN.clear()
    _KNOWN[which] = bundle, variant, own_in, own_out, passes_nan, made
    return made


_KNOWN: Final[
    dict[
        tuple[int, int],
        tuple[Bundle, Variant, tuple[TensorSpec, ...], tuple[TensorSpec, ...], bool, Translation],
    ]
] = {}
"""By the identity of bundle and variant, which are kept alive for it; with what the last one rests on."""


@lru_cache(maxsize=256)
def _same(name: str) -> TensorMapping:
    """The mapping of a tensor that is the same in the variant."""
    return TensorMapping(name=name)


def _check_names(
    bundle: Bundle, variant: Variant, what: str, mapped: set[str], own: set[str], *, exactly: bool
) -> None:
    if mapped <= own and (mapped == own or not exactly):
        return
    raise BundleError(
        f"variant {variant.name!r} of bundle {bundle.name!r} has the {what}s {sorted(own)}, "
        f"but the manifest maps onto {sorted(mapped)}; "
        f"mend the mapping of variant {variant.name!r} in the manifest"
    )


def _check_fit(
    bundle: Bundle, variant: Variant, spec: TensorSpec, mapping: TensorMapping, own: TensorSpec, what: str
) -> None:
    """`BundleError` unless the canonical tensor, mapped, is what the file declares; what an engine leaves open is not checked."""
    axes = mapping.transpose
    datatype = mapping.datatype or ("INT8" if mapping.scale is not None else spec.datatype)
    shape = mapping.shape or (spec.shape if axes is None else tuple(spec.shape[axis] for axis in axes))
    # An empty shape is a scalar or, from ONNX Runtime, a tensor of unknown rank.
    fits = not own.shape or (len(shape) == len(own.shape) and all(map(_same_size, shape[1:], own.shape[1:])))
    where = f"{what} {spec.name!r} of variant {variant.name!r} of bundle {bundle.name!r}"
    if datatype != own.datatype or not fits:
        raise BundleError(
            f"{where} becomes {TensorSpec(own.name, datatype, shape)} by the manifest's mapping, "
            f"but the file has {own.name!r} {own}; mend the mapping"
        )
    if what == "input" and own.shape and spec.is_batched and own.shape[0] not in (-1, variant.fixed_batch):
        raise BundleError(
            f"{where} is {own} in the file, which takes batches of {own.shape[0]} only, but the manifest says "
            f"fixed_batch {variant.fixed_batch}; mend fixed_batch"
        )


def _same_size(one: int, other: int) -> bool:
    return one == other or one == -1 or other == -1

"""A variant opened on a backend, speaking the bundle's canonical tensors.

The manifest's preprocessing, mapping (names, layout, shape, quantisation), a fixed batch and what becomes of NaN are applied
here and nowhere else, so whoever measures a candidate and whoever serves it run the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from runtime.backends.base import Backend, Overlap, RunOptions, Session
from runtime.backends.mapping import from_own, to_own
from runtime.backends.nan_rows import NanRows, swallows_nan
from runtime.backends.pool import open_beside
from runtime.backends.preprocess import Step, steps_of
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import TensorMapping, Variant
from runtime.errors import BundleError
from runtime.tensors import Array, TensorSpec


class OpenedVariant:
    """Canonical tensors in, canonical tensors out; `predict` may be called from any thread.

    `inputs` and `outputs` are the manifest's, or the engine's own where a bare file has no manifest. `is_same` says that
    they are also those of `session`, the variant as its engine opened it.
    """

    def __init__(self, bundle: Bundle, variant: Variant, session: Session) -> None:
        own_in = {spec.name: spec for spec in session.inputs}
        own_out = {spec.name: spec for spec in session.outputs}
        model_in: tuple[TensorSpec, ...]
        before: dict[str, Step] = {}
        if bundle.manifest is None:
            self.inputs, self.outputs = session.inputs, session.outputs
            model_in = self.inputs
        else:
            self.inputs = tuple(t.spec for t in bundle.manifest.inputs)
            model_in = tuple(t.model_spec for t in bundle.manifest.inputs)
            steps = {t.name: steps_of(t.spec, t.preprocess) for t in bundle.manifest.inputs}
            before = {name: step for name, step in steps.items() if step is not None}
            self.outputs = tuple(t.spec for t in bundle.manifest.outputs)
        self.session = session
        self._fixed_batch = variant.fixed_batch
        mapped_in = {s.name: variant.mapping.inputs.get(s.name) or _same(s.name) for s in self.inputs}
        mapped_out = {s.name: variant.mapping.outputs.get(s.name) or _same(s.name) for s in self.outputs}
        _check_names(bundle, variant, "input", {m.name for m in mapped_in.values()}, set(own_in), exactly=True)
        _check_names(bundle, variant, "output", {m.name for m in mapped_out.values()}, set(own_out), exactly=False)
        for spec in model_in:
            _check_fit(bundle, variant, spec, mapped_in[spec.name], own_in[mapped_in[spec.name].name], "input")
        for spec in self.outputs:
            _check_fit(bundle, variant, spec, mapped_out[spec.name], own_out[mapped_out[spec.name].name], "output")
        self._batched_in = [s.name for s in self.inputs if s.is_batched]
        # The input whose rows are counted; none where an output does not follow the batch and has to be computed anyway.
        self._counted = self._batched_in[0] if self._batched_in and all(s.is_batched for s in self.outputs) else None
        self._preprocess = before
        self._map = [(s.name, mapped_in[s.name].name, to_own(s, mapped_in[s.name])) for s in model_in]
        self._finish = [(s.name, mapped_out[s.name].name, from_own(s, mapped_out[s.name])) for s in self.outputs]
        self._nan_rows = NanRows(model_in, self.outputs) if swallows_nan(variant, session, model_in) else None
        self._is_same_in = all(name == own and step is None for name, own, step in self._map)
        self._is_same_out = all(name == own and step is None for name, own, step in self._finish) and len(
            own_out
        ) == len(self.outputs)
        self.is_same = not before and self._is_same_in and self._is_same_out
        self._is_direct = self.is_same and self._nan_rows is None

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by canonical name, for inputs that fit `self.inputs` (not checked here); the errors of `Session.run`.

        Zero rows give zero rows, whatever the engine would say to them; rows with NaN give NaN where variant or engine would
        make a number of it (`nan_rows`), and what the engine makes of them elsewhere.
        """
        if self._counted is not None:
            rows = len(inputs[self._counted])
            if rows == 0:
                return {s.name: np.empty((0, *(max(n, 0) for n in s.shape[1:])), s.dtype) for s in self.outputs}
            if self._fixed_batch is not None and rows != self._fixed_batch:
                return self._predict_in_fixed_batches(inputs, rows, self._fixed_batch)
        return self.session.run(inputs) if self._is_direct else self._predict_once(inputs)

    def prepare(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The variant's own tensors, as the engine gets them: preprocessed and mapped."""
        return self._mapped(self._preprocessed(inputs))

    def close(self) -> None:
        """Gives the engine's memory back."""
        self.session.close()

    def _preprocessed(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if not self._preprocess:
            return inputs
        return {**inputs, **{name: step(inputs[name]) for name, step in self._preprocess.items()}}

    def _mapped(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._is_same_in:
            return tensors
        return {own: tensors[name] if step is None else step(tensors[name]) for name, own, step in self._map}

    def _predict_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = self._preprocessed(inputs)
        results = self.session.run(self._mapped(tensors))
        if not self._is_same_out:
            results = {name: results[own] if step is None else step(results[own]) for name, own, step in self._finish}
        return results if self._nan_rows is None else self._nan_rows.kept(tensors, results)

    def _predict_in_fixed_batches(self, inputs: Mapping[str, Array], rows: int, size: int) -> dict[str, Array]:
        parts: list[dict[str, Array]] = []
        for start in range(0, rows, size):
            chunk = {name: _filled(inputs[name][start : start + size], size) for name in self._batched_in}
            parts.append(self._predict_once({**inputs, **chunk}))
        return {s.name: np.concatenate([part[s.name] for part in parts])[:rows] for s in self.outputs}


def open_variant(
    bundle: Bundle,
    variant: Variant,
    backend: Backend,
    options: RunOptions,
    instances: Callable[[Overlap], int] = lambda overlap: 1,
) -> OpenedVariant:
    """`variant` of `bundle` opened on `backend`, its file's digest checked; the errors are those of `Backend.open`.

    `instances`: how many calls are to run at the same time, from what the first session says of itself. Where that takes
    sessions of their own, so many are opened.
    """
    path = bundle.check_file(variant)
    session = backend.open(path, options)
    try:
        if session.overlap is Overlap.OWN:
            session = open_beside(session, instances(session.overlap), lambda: backend.open(path, options))
        return OpenedVariant(bundle, variant, session)
    except BaseException:
        session.close()
        raise


@lru_cache(maxsize=256)
def _same(name: str) -> TensorMapping:
    """The mapping of a tensor that is the same in the variant."""
    return TensorMapping(name=name)


def _filled(chunk: Array, size: int) -> Array:
    """`chunk` [row, ...] with its last row repeated up to `size` rows."""
    missing = size - len(chunk)
    return chunk if missing == 0 else np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])


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

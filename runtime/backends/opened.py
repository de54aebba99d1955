"""A variant opened on a backend, speaking the bundle's canonical tensors.

The manifest's preprocessing, mapping (names, layout, shape, quantisation), a fixed batch and what becomes of NaN are applied
here and nowhere else, so whoever measures a candidate and whoever serves it run the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from runtime.backends.base import Backend, Overlap, RunOptions, Session
from runtime.backends.pool import open_beside
from runtime.backends.translation import translation_of
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Variant
from runtime.tensors import Array


class OpenedVariant:
    """Canonical tensors in, canonical tensors out; `predict` may be called from any thread.

    `inputs` and `outputs` are the manifest's, or the engine's own where a bare file has no manifest. `is_same` says that
    they are also those of `session`, the variant as its engine opened it.
    """

    def __init__(self, bundle: Bundle, variant: Variant, session: Session) -> None:
        it = translation_of(bundle, variant, session)
        self.inputs, self.outputs = it.inputs, it.outputs
        self.session = session
        self.is_same = not it.preprocess and it.is_same_in and it.is_same_out
        self._it = it
        self._fixed_batch = variant.fixed_batch
        self.check = it.check
        """Of `inputs`, before `predict`."""
        self.first_batched = it.batched_in[0] if it.batched_in else None
        """The first input that has rows."""
        self._counted = it.counted
        self._nan_rows = it.nan_rows

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
        if not self.is_same:
            return self._predict_once(inputs)
        results = self.session.run(inputs)
        return results if self._nan_rows is None else self._nan_rows.kept(inputs, results)

    def prepare(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The variant's own tensors, as the engine gets them: preprocessed and mapped."""
        return self._mapped(self._preprocessed(inputs))

    def close(self) -> None:
        """Gives the engine's memory back."""
        self.session.close()

    def _preprocessed(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        steps = self._it.preprocess
        return inputs if not steps else {**inputs, **{name: step(inputs[name]) for name, step in steps.items()}}

    def _mapped(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._it.is_same_in:
            return tensors
        return {own: tensors[name] if step is None else step(tensors[name]) for name, own, step in self._it.to_own}

    def _predict_once(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        it, tensors = self._it, self._preprocessed(inputs)
        results = self.session.run(tensors if it.is_same_in else self._mapped(tensors))
        if not it.is_same_out:
            results = {name: results[own] if step is None else step(results[own]) for name, own, step in it.from_own}
        return results if it.nan_rows is None else it.nan_rows.kept(tensors, results)

    def _predict_in_fixed_batches(self, inputs: Mapping[str, Array], rows: int, size: int) -> dict[str, Array]:
        parts: list[dict[str, Array]] = []
        for start in range(0, rows, size):
            chunk = {name: _filled(inputs[name][start : start + size], size) for name in self._it.batched_in}
            parts.append(self._predict_once({**inputs, **chunk}))
        return {s.name: np.concatenate([part[s.name] for part in parts])[:rows] for s in self.outputs}


def open_variant(
    bundle: Bundle,
    variant: Variant,
    backend: Backend,
    options: RunOptions,
    instances: Callable[[Overlap], int] | None = None,
) -> OpenedVariant:
    """`variant` of `bundle` opened on `backend`, its file's digest checked; the errors are those of `Backend.open`.

    `instances`: how many calls are to run at the same time, from what the first session says of itself; None: one. Where that
    takes sessions of their own, so many are opened.
    """
    path = bundle.check_file(variant)
    session = backend.open(path, options)
    try:
        if instances is not None and session.overlap is Overlap.OWN:
            session = open_beside(session, instances(session.overlap), lambda: backend.open(path, options))
        return OpenedVariant(bundle, variant, session)
    except BaseException:
        session.close()
        raise


def _filled(chunk: Array, size: int) -> Array:
    """`chunk` [row, ...] with its last row repeated up to `size` rows."""
    missing = size - len(chunk)
    return chunk if missing == 0 else np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])

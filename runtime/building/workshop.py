"""A draft of a bundle in a scratch folder: files are taken in, made, described and measured there, each in its own process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.building.description import Described, Signature, described_from, mapping_onto
from runtime.building.isolated import Limits, WorkFailedError, run_isolated
from runtime.building.recipes import READER_NEEDS, Recipe, not_installed
from runtime.bundle.bundle import sha256_of
from runtime.bundle.manifest import Format, Manifest, ModelDescription, Variant
from runtime.bundle.samples import Samples, samples_from_npz, samples_to_npz
from runtime.errors import BundleError
from runtime.tensors import Array

_SESSIONS: Final = "runtime.building.sessions"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as a file that workers read."""

    file: Path
    samples: Samples


class Workshop:
    """A scratch folder, and the limits of the work in it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self._limits = limits

    def lay_out(self, name: str, inputs: dict[str, Array], labels: Array | None) -> Rows:
        """Rows, written for workers."""
        samples = Samples(inputs, {}, labels)
        file = self.folder / f"{name}.npz"
        file.write_bytes(samples_to_npz(samples))
        return Rows(file, samples)

    def take_in(self, source: Path, format_: Format) -> tuple[Path, str]:
        """The source as a self-contained file in the folder, and its precision; `BundleError` when it is no such model."""
        missing = not_installed(READER_NEEDS.get(format_, ()))
        if missing is not None:
            raise BundleError(f"{source} cannot be taken in: {missing}")
        target = self.folder / f"source.{format_.value}"
        try:
            precision = self._work("take_in", source=str(source.resolve()), target=str(target), format_=format_.value)
        except WorkFailedError as error:
            raise BundleError(f"{source} cannot be taken in: {error}") from error
        return target, str(precision)

    def describe(self, file: Path, format_: Format) -> Described:
        """The file's own tensors; `WorkFailedError` when its engine does not open it."""
        return described_from(self._work("describe", file=str(file), format_=format_.value))

    def variant(
        self, file: Path, format_: Format, precision: str, signature: Signature, described: Described
    ) -> Variant:
        """`file` as a variant, its mapping found; `WorkFailedError` when the canonical tensors have no place in it."""
        try:
            return Variant(
                name=file.name,
                format=format_,
                precision=precision,
                fixed_batch=described.fixed_batch,
                mapping=mapping_onto(signature, described),
                file=file.name,
                sha256=sha256_of(file),
                size_bytes=file.stat().st_size,
            )
        except BundleError as error:
            raise WorkFailedError(str(error)) from error

    def make(self, recipe: Recipe, model: ModelDescription, of: Variant, rows: Rows) -> Path:
        """The file that `recipe` makes of the variant `of`; `WorkFailedError` says why not."""
        target = self.folder / recipe.name
        calibration = {**self._bundle(model, of), "rows": str(rows.file)} if recipe.needs_rows else None
        self._work(
            "convert",
            work=recipe.work,
            source=str(self.folder / of.file),
            target=str(target),
            options=dict(recipe.options),
            calibration=calibration,
        )
        if not target.is_file() or target.stat().st_size == 0:
            raise WorkFailedError("the converter wrote nothing")
        return target

    def answer(
        self, model: ModelDescription, variant: Variant, rows: Rows, root: Path | None = None
    ) -> tuple[dict[str, Array], str]:
        """The variant's outputs for `rows`, and the backend that gave them; `WorkFailedError` when it fails on them.

        Its file lies in the bundle's folder `root`, where it is not the workshop's own.
        """
        answers = self.folder / f"{variant.name}.answers.npz"
        order = self._bundle(model, variant, root)
        backend = self._work("answer", **order, rows=str(rows.file), answers=str(answers))
        try:
            return samples_from_npz(answers, model.inputs, model.outputs).outputs, str(backend)
        except BundleError as error:
            raise WorkFailedError(str(error)) from error

    def try_alterations(
        self, model: ModelDescription, variant: Variant, rows: Rows, names: Sequence[str], time_s: float
    ) -> dict[str, float]:
        """The accuracy with each alteration; empty when the work fails."""
        order = self._bundle(model, variant)
        try:
            found = self._work("try_alterations", **order, rows=str(rows.file), names=list(names), time_s=time_s)
        except WorkFailedError:
            return {}
        return {str(name): float(share) for name, share in found.items()}

    def errors_altered(
        self, model: ModelDescription, variant: Variant, rows: Rows, names: Sequence[str], time_s: float
    ) -> dict[str, Array]:
        """How far a regressor is off in each row with each alteration; empty when the work fails."""
        order = self._bundle(model, variant)
        try:
            found = self._work("errors_altered", **order, rows=str(rows.file), names=list(names), time_s=time_s)
        except WorkFailedError:
            return {}
        return {str(name): np.array(errors, np.float64) for name, errors in found.items()}

    def _bundle(self, model: ModelDescription, variant: Variant, root: Path | None = None) -> Mapping[str, str]:
        described = {key: getattr(model, key) for key in ModelDescription.model_fields}
        manifest = Manifest(**described, variants=(variant,))
        said = json.dumps(manifest.model_dump(mode="json"))
        return {"root": str((root or self.folder).resolve()), "manifest": said, "variant": variant.name}

    def _work(self, function: str, **arguments: Any) -> Any:
        return run_isolated(f"{_SESSIONS}:{function}", arguments, self._limits)

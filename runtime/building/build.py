"""A bundle from a model file and rows: take in, describe, split, make variants, measure each, write what is right.

Everything that runs a converter or an engine happens in `workshop`, in processes of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.building.description import Described, Signature, make_signature
from runtime.building.isolated import MB, Limits, WorkFailedError
from runtime.building.recipes import Recipe, recipes_for
from runtime.building.request import BuildRequest
from runtime.building.rows import Split, read_rows, split_rows
from runtime.building.source_accuracy import check_source
from runtime.building.source_error import check_regressor
from runtime.building.workshop import Rows, Workshop
from runtime.bundle.bare import FORMAT_OF_SUFFIX, read_bare_file
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, LeftOut, ModelDescription, Task, Tensor, Variant, VariantDescription
from runtime.bundle.profile import reference_profile
from runtime.bundle.samples import Samples
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle
from runtime.errors import BundleError, WrongUseError
from runtime.hardware import probe
from runtime.monitoring.bundled import with_features
from runtime.selection.decide import why_wrong
from runtime.selection.guard import check_answers
from runtime.tensors import Array

Progress = Callable[[str, float], None]

MEMORY_SHARE: Final = 0.8
"""Of the memory available now: what one conversion may take."""
MAX_SOURCE_BYTES: Final = 4 << 30
"""A bundle holds several variants of it, each read whole while it is written."""
_LIBRARIES: Final = {
    Format.ONNX: ("onnx", "onnxruntime"),
    Format.TFLITE: ("ai-edge-litert", "ai-edge-quantizer", "litert-torch"),
    Format.TORCH: ("torch", "onnxscript"),
}


@dataclass(frozen=True, slots=True)
class VariantReport:
    """What became of one variant."""

    name: str
    size_bytes: int | None = None
    accuracy: float | None = None
    agreement: float | None = None
    backend: str | None = None
    """What measured it."""
    reason: str | None = None
    """Why it is left out; None when it is kept."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The bundle that was written, and how it went."""

    bundle: Bundle
    variants: tuple[VariantReport, ...]
    split: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Made:
    variant: Variant
    outputs: dict[str, Array]
    report: VariantReport


def build_bundle(
    source: Path,
    out: Path,
    rows_file: Path,
    request: BuildRequest,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Writes the bundle `out` from the model file `source` and the rows in `rows_file` (npz).

    `WrongUseError` when request, rows and model do not fit one another; `BundleError` when the source is no model, or is
    wrong on the rows with the declared preprocessing (the text says the likely cause). A variant that cannot be made, or
    whose answers are not right enough, is left out with its reason.
    """
    if out.exists() and not replace:
        raise WrongUseError(f"{out} exists already; name another folder, or have it replaced (--replace)")
    if not source.is_file():
        raise WrongUseError(f"{source} cannot be read: there is no such file; check the path")
    read_bare_file(source)
    size = source.stat().st_size
    if size > MAX_SOURCE_BYTES:
        raise BundleError(f"{source} has {size} bytes; a source has at most {MAX_SOURCE_BYTES}")
    rows = read_rows(rows_file)
    with tempfile.TemporaryDirectory(prefix="edgeward-build-") as scratch:
        shop = Workshop(Path(scratch), _limits(request))
        return _Build(shop, request, source, progress or (lambda what, share: None)).run(out, rows, replace)


class _Build:
    """One build, its parts in order."""

    def __init__(self, shop: Workshop, request: BuildRequest, source: Path, progress: Progress) -> None:
        self._shop = shop
        self._request = request
        self._source = source
        self._progress = progress
        self._warnings: list[str] = []

    def run(self, out: Path, rows: Any, replace: bool) -> BuildReport:
        request, format_ = self._request, FORMAT_OF_SUFFIX[self._source.suffix]
        self._progress("taking in the source", 0.0)
        taken, precision = self._shop.take_in(self._source, format_)
        try:
            described = self._shop.describe(taken, format_)
        except WorkFailedError as error:
            text = str(error).replace(str(taken), str(self._source))  # a copy of which nobody has heard
            raise BundleError(
                text if str(self._source) in text else f"{self._source} cannot be opened: {text}"
            ) from error
        signature = make_signature(request, described, rows)
        split = split_rows(signature.rows, rows.labels, request.calibration_rows, request.seed)
        model = self._describe_model(signature, described, split)
        held_out = self._shop.lay_out("held-out", split.held_out, split.labels)
        calibration = self._shop.lay_out("calibration", split.calibration, None)
        reference = self._measure_source(taken, precision, signature, described, model, held_out)
        recipes, impossible = recipes_for(format_, precision)
        made = {reference.variant.name: reference}
        reports = {reference.variant.name: reference.report}
        for number, recipe in enumerate(recipes, 1):
            self._progress(f"making {recipe.name}", number / (len(recipes) + 1))
            one = self._make(recipe, made, reference, signature, model, (calibration, held_out))
            if isinstance(one, _Made) and one.report.reason is None:
                made[recipe.name] = one
            reports[recipe.name] = one.report if isinstance(one, _Made) else one
        reports |= {left.name: VariantReport(left.name, reason=left.reason) for left in impossible}
        bundle = self._write(out, model, tuple(made.values()), tuple(reports.values()), split, replace)
        return BuildReport(bundle, tuple(reports.values()), split.said, tuple(self._warnings))

    def _describe_model(self, signature: Signature, described: Described, split: Split) -> ModelDescription:
        request = self._request
        first = signature.outputs[0]
        is_score = len(first.shape) == 2 and first.shape[1] > 1 and first.spec.dtype.kind == "f"
        task = request.task or _task_of(split.labels, is_score=is_score)
        if task is Task.CLASSIFICATION and split.labels is not None:
            _check_labels(first, split.labels)
        if split.labels is None:
            self._warnings.append("the rows have no labels: variants are held to agreement with the source alone")
            if is_score and task is Task.GENERIC:
                self._warnings.append(
                    "the task is taken for generic, so every value has to agree; for a classifier say --task classification"
                )
        if request.targets.accuracy_floor is None:
            self._warnings.append(
                "no accuracy floor is declared: a variant is kept when it agrees with the source in 90 % of rows"
            )
        name = request.name or self._source.stem
        try:
            return ModelDescription(
                name=name,
                version=request.version,
                description=request.description,
                task=task,
                inputs=signature.inputs,
                outputs=signature.outputs,
                targets=request.targets,
            )
        except ValueError as error:
            raise WrongUseError(f"model {name!r} cannot be described: {error}") from error

    def _measure_source(
        self,
        taken: Path,
        precision: str,
        signature: Signature,
        described: Described,
        model: ModelDescription,
        held_out: Rows,
    ) -> _Made:
        """The source as the first variant; `BundleError` when it is not right on the rows."""
        self._progress("measuring the source", 0.0)
        format_ = FORMAT_OF_SUFFIX[self._source.suffix]
        file = taken.rename(taken.with_name(f"{'model' if format_ is Format.TORCH else precision}.{format_.value}"))
        try:
            variant = self._shop.variant(file, format_, precision, signature, described)
            outputs, backend = self._shop.answer(model, variant, held_out)
        except WorkFailedError as error:
            raise BundleError(f"{self._source} fails on the rows: {error}") from error
        names = [tensor.name for tensor in model.outputs]
        result = check_answers(model.task, names, outputs, outputs, held_out.samples.labels)
        broken = [name for name in names if outputs[name].dtype.kind == "f" and not np.isfinite(outputs[name]).all()]
        if broken:
            self._warnings.append(f"output {broken[0]!r} of the source is NaN or infinite on some rows")
        if result.accuracy is not None:
            self._progress("looking at the source's accuracy", 0.0)
            check_source(self._shop, result.accuracy, model, variant, held_out)
        elif model.task is Task.REGRESSION and held_out.samples.labels is not None:
            self._progress("looking at the source's error", 0.0)
            self._warnings += check_regressor(self._shop, outputs[names[0]], model, variant, held_out)
        return _Made(variant, outputs, _report(variant, result.accuracy, result.agreement, backend))

    def _make(
        self,
        recipe: Recipe,
        made: dict[str, _Made],
        reference: _Made,
        signature: Signature,
        model: ModelDescription,
        rows: tuple[Rows, Rows],
    ) -> _Made | VariantReport:
        """The variant, measured; or its report with the reason why there is none."""
        calibration, held_out = rows
        if recipe.name in self._request.without:
            return VariantReport(recipe.name, reason="it was not asked for")
        missing = recipe.missing()
        if missing is not None:
            return VariantReport(recipe.name, reason=missing)
        if recipe.needs_rows and not len(calibration.samples):
            return VariantReport(recipe.name, reason="it is calibrated on rows without NaN or infinity; there are none")
        of = reference if recipe.made_from is None else made.get(recipe.made_from)
        if of is None:
            return VariantReport(recipe.name, reason=f"it is made from {recipe.made_from}, which is left out")
        try:
            file = self._shop.make(recipe, model, of.variant, calibration)
            described = self._shop.describe(file, recipe.format)
            variant = self._shop.variant(file, recipe.format, recipe.precision, signature, described)
        except WorkFailedError as error:
            return VariantReport(recipe.name, reason=f"it cannot be made: {error}")
        self._progress(f"measuring {recipe.name}", 0.0)
        try:
            outputs, backend = self._shop.answer(model, variant, held_out)
        except WorkFailedError as error:
            return VariantReport(recipe.name, variant.size_bytes, reason=f"it fails on the rows: {error}")
        names = [tensor.name for tensor in model.outputs]
        result = check_answers(model.task, names, outputs, reference.outputs, held_out.samples.labels)
        reason = why_wrong(result, model.targets.accuracy_floor, model.targets.agreement_floor)
        return _Made(variant, outputs, _report(variant, result.accuracy, result.agreement, backend, reason))

    def _write(
        self,
        out: Path,
        model: ModelDescription,
        made: Sequence[_Made],
        reports: Sequence[VariantReport],
        split: Split,
        replace: bool,
    ) -> Bundle:
        self._progress("writing the bundle", 1.0)
        left_out = tuple(LeftOut(name=one.name, reason=one.reason) for one in reports if one.reason is not None)
        model = model.model_copy(update={"left_out": left_out, "provenance": self._provenance(made, split)})
        samples = Samples(split.held_out, made[0].outputs, split.labels)
        drafts = []
        for one in made:
            said = {key: getattr(one.variant, key) for key in VariantDescription.model_fields}
            said |= {"accuracy": one.report.accuracy, "agreement": one.report.agreement}
            drafts.append(VariantDraft(VariantDescription(**said), self._shop.folder / one.variant.file))
        profile = with_features(reference_profile(model, samples), model, samples)
        draft = BundleDraft(model, tuple(drafts), samples, profile, self._request.class_names)
        return write_bundle(out, draft, replace=replace)

    def _provenance(self, made: Sequence[_Made], split: Split) -> dict[str, str]:
        source = read_bare_file(self._source)
        said = {
            "made_by": f"edgeward bundle build {_version('edgeward')}",
            "source": f"{self._source.name}, sha256 {source.digest}",
            "split": split.said,
            "measured_with": ", ".join(f"{one.variant.name}: {one.report.backend}" for one in made),
        }
        used = {library for one in made for library in _LIBRARIES[one.variant.format]} | {"numpy"}
        said |= {name: number for name in sorted(used) if (number := _version(name)) != "not installed"}
        return {**self._request.provenance, **said}


def _limits(request: BuildRequest) -> Limits:
    available = probe().memory.available_bytes
    return Limits(request.time_limit_s, None if available is None else MEMORY_SHARE * available / MB)


def _report(
    variant: Variant, accuracy: float | None, agreement: float | None, backend: str, reason: str | None = None
) -> VariantReport:
    # Six digits tell any two counts of a thousand rows apart.
    shares = [None if share is None else round(share, 6) for share in (accuracy, agreement)]
    return VariantReport(variant.name, variant.size_bytes, shares[0], shares[1], backend, reason)


def _task_of(labels: Array | None, *, is_score: bool) -> Task:
    """What labels and first output look like: classes beside scores, numbers that are no classes, or neither."""
    if labels is None:
        return Task.GENERIC
    if labels.dtype.kind == "f":
        return Task.REGRESSION
    return Task.CLASSIFICATION if labels.dtype.kind in "iu" and is_score else Task.GENERIC


def _check_labels(scores: Tensor, labels: Array) -> None:
    if labels.dtype.kind not in "iu":
        raise WrongUseError(f"'labels' are {labels.dtype}; the labels of a classifier are numbers of classes, integers")
    classes = scores.shape[1] if len(scores.shape) > 1 and scores.shape[1] > 1 else 2
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (high >= classes and scores.shape[1:2] != (-1,)):
        raise WrongUseError(
            f"'labels' go from {low} to {high}, but output {scores.name!r} {scores.spec} has classes 0 to {classes - 1}; "
            "count classes from 0, or name the output of classes first"
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

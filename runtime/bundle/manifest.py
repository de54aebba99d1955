"""The manifest of a bundle: what `manifest.json` may say, validated.

Schema version 1. Everything here is a value; reading files and checking digests is `runtime.bundle.bundle`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from runtime.bundle.objective import Objective
from runtime.bundle.part import Datatype
from runtime.bundle.part import Part as Part
from runtime.bundle.preprocessing import STEPS, Steps, spec_after
from runtime.errors import BundleError
from runtime.tensors import TensorSpec

SCHEMA_VERSION = 1
# Manifests name a few files and tensors; a megabyte is a hundred times what a large one takes.
MAX_MANIFEST_BYTES = 1 << 20


class Format(StrEnum):
    """The file format of a variant, which decides the backends that may open it."""

    ONNX = "onnx"
    TFLITE = "tflite"
    TORCH = "pt2"


class Task(StrEnum):
    """What the model is for, which decides how outputs are compared with labels."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    GENERIC = "generic"


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or any(sign in path for sign in ("\\", ":", "\0")):
        raise ValueError(f"{path!r} does not stay inside the bundle; expected a path such as variants/fp32.onnx")
    return path


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(size < -1 for size in shape):
        raise ValueError(f"shape {list(shape)} has a dimension below -1; -1 is a dimension free to vary")
    return shape


def _model_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise ValueError(
            f"{name!r} is no model name; expected up to 128 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return name


RelativePath = Annotated[str, AfterValidator(_inside)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Shape = Annotated[tuple[int, ...], Field(max_length=16), AfterValidator(_shape)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Tensor(Part):
    """A canonical input or output: what callers see, whichever variant runs."""

    name: str = Field(min_length=1, max_length=256)
    datatype: Datatype
    shape: Shape
    """-1 for a dimension free to vary; the first is the batch."""
    meaning: str = ""
    range: tuple[float, float] | None = None
    """Lowest and highest sensible value, where that is known."""
    preprocess: Steps = ()
    """Of an input: the steps, in order, from what callers send to the model's tensor, onto which variants' mappings apply."""

    @model_validator(mode="after")
    def _range_is_in_order(self) -> Tensor:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} of {self.name!r} is empty; expected [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _steps_fit_one_another(self) -> Tensor:
        spec_after(self.spec, self.preprocess)
        return self

    @property
    def spec(self) -> TensorSpec:
        """The part of it that a request is checked against."""
        return TensorSpec(self.name, self.datatype, self.shape)

    @property
    def model_spec(self) -> TensorSpec:
        """The model's tensor: what comes out of the preprocessing."""
        return spec_after(self.spec, self.preprocess)


class TensorMapping(Part):
    """How one canonical tensor, preprocessed, lies in a variant's own; what is absent is the same in both.

    From canonical to own, in this order: `transpose`, then `shape`, then quantisation (`round(x / scale) + zero_point`,
    clipped) or a cast to `datatype`. Outputs take the same steps backwards.
    """

    name: str
    """The variant's own tensor name."""
    transpose: tuple[int, ...] | None = None
    """Axes of the canonical tensor in the variant's order: (0, 2, 3, 1) turns NCHW into NHWC."""
    shape: Shape | None = None
    """The variant's own shape where it is another one, batch as -1."""
    datatype: Datatype | None = None
    scale: float | None = Field(default=None, gt=0)
    zero_point: int = 0

    @model_validator(mode="after")
    def _axes_are_a_permutation(self) -> TensorMapping:
        axes = self.transpose
        if axes is not None and (sorted(axes) != list(range(len(axes))) or axes[:1] != (0,)):
            raise ValueError(
                f"transpose {list(axes)} is no order of axes with the batch first; expected e.g. [0, 2, 3, 1]"
            )
        return self


class Mapping(Part):
    """For every canonical tensor, by its name, where it lies in the variant."""

    inputs: dict[str, TensorMapping] = Field(default_factory=dict)
    outputs: dict[str, TensorMapping] = Field(default_factory=dict)


class VariantDescription(Part):
    """What is known of a variant before its file lies in a bundle."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    format: Format
    precision: str
    """fp32, fp16, int8, dynamic-int8, ..."""
    fixed_batch: int | None = Field(default=None, ge=1)
    """The only batch the file takes; absent when the batch is free."""
    mapping: Mapping = Mapping()
    accuracy: float | None = Field(default=None, ge=0, le=1)
    """On the bundle's held-out samples, measured when the bundle was built."""
    agreement: float | None = Field(default=None, ge=0, le=1)
    """Share of samples whose answer (arg max, or all values within tolerance) is the reference's."""


class Variant(VariantDescription):
    """One file that computes the model."""

    file: RelativePath
    sha256: Sha256
    size_bytes: int = Field(gt=0)


class LeftOut(Part):
    """A variant that was tried when the bundle was built, and why it is not in it."""

    name: str
    reason: str


class Targets(Part):
    """What the product asks of the model, from scoping; absent targets are not asked for."""

    accuracy_floor: float | None = Field(default=None, ge=0, le=1)
    agreement_floor: float | None = Field(default=None, ge=0, le=1)
    """Share of rows in which a variant must answer as the reference does; absent: the guard's own bound."""
    p95_latency_ms: float | None = Field(default=None, gt=0)
    throughput_rows_per_s: float | None = Field(default=None, gt=0)
    memory_mb: float | None = Field(default=None, gt=0)
    objective: Objective | None = None
    """What is made best among those that meet all the others; absent: latency."""


class File(Part):
    """A data file of the bundle, held to its digest."""

    file: RelativePath
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class ModelDescription(Part):
    """What is known of a model before its files lie in a bundle."""

    name: ModelName
    version: int = Field(ge=1)
    description: str = ""
    task: Task = Task.GENERIC
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    targets: Targets = Targets()
    left_out: tuple[LeftOut, ...] = ()
    provenance: dict[str, str] = Field(default_factory=dict)
    """How it was made: data, seed, library versions, licence."""

    @model_validator(mode="after")
    def _tensor_names_are_unique(self) -> ModelDescription:
        _check_unique("input", [t.name for t in self.inputs])
        _check_unique("output", [t.name for t in self.outputs])
        return self

    @model_validator(mode="after")
    def _only_inputs_are_preprocessed(self) -> ModelDescription:
        for tensor in self.outputs:
            if tensor.preprocess:
                raise ValueError(f"output {tensor.name!r} has preprocessing; only inputs may")
        return self


class Manifest(ModelDescription):
    """Everything that `manifest.json` says."""

    schema_version: Literal[1] = 1
    variants: tuple[Variant, ...] = Field(min_length=1)
    """The first is the reference: the others are compared with it."""
    samples: File | None = None
    """npz: `input:<name>` canonical inputs, `output:<name>` the reference's outputs, `labels` where known."""
    profile: File | None = None
    """JSON: the reference profile of inputs and outputs, the baseline for drift."""
    labels: File | None = None
    """Text: one class name a line."""

    @model_validator(mode="after")
    def _variants_fit_the_model(self) -> Manifest:
        _check_unique("variant", [v.name for v in self.variants])
        for variant in self.variants:
            _check_mapping(variant.name, "input", variant.mapping.inputs, self.inputs)
            _check_mapping(variant.name, "output", variant.mapping.outputs, self.outputs)
        return self

    @property
    def reference(self) -> Variant:
        """The variant that the others are compared with."""
        return self.variants[0]


def parse_manifest(text: str | bytes, where: str) -> Manifest:
    """The manifest that `text` (JSON) holds; `BundleError` names each wrong key, with the nearest known one."""
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes, the most a manifest has; is it one?")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(_problems(error))
        raise BundleError(f"{where} is not a manifest of schema {SCHEMA_VERSION}: {problems}") from error


def _check_unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice; names are unique")


def _check_mapping(variant: str, what: str, mapped: dict[str, TensorMapping], tensors: Sequence[Tensor]) -> None:
    ranks = {t.name: len(t.model_spec.shape) for t in tensors}
    for name, mapping in mapped.items():
        if name not in ranks:
            known = ", ".join(map(repr, ranks))
            raise ValueError(f"variant {variant!r} maps the unknown {what} {name!r}; the model's {what}s: {known}")
        if mapping.transpose is not None and len(mapping.transpose) != ranks[name]:
            raise ValueError(
                f"variant {variant!r} transposes {what} {name!r} of {ranks[name]} dimensions by "
                f"{list(mapping.transpose)}; give every axis once"
            )


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _ALL_KEYS, n=1)
            lines.append(f"unknown key {path!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        else:
            lines.append(f"{path or 'manifest'}: {problem['msg']}")
    return lines


_PARTS: tuple[type[Part], ...] = (Manifest, Variant, Tensor, TensorMapping, Mapping, Targets, File, LeftOut, *STEPS)
_ALL_KEYS = sorted({key for part in _PARTS for key in part.model_fields})

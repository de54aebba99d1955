"""Declared preprocessing: the steps from what callers send to the model's tensor, and what each makes of a spec.

Values and shape inference alone; `runtime.backends.preprocess` applies them. A step keeps the batch, the first dimension.

`resize` takes pixel centres at half coordinates (ONNX Resize's `half_pixel`, OpenCV's INTER_LINEAR) without antialiasing:
Pillow and torchvision smooth when they shrink and give other pixels. `nearest` takes the lower of two equally near pixels
(ONNX's `round_prefer_floor`). Integer images stay integer: the interpolated value is rounded, half to even.

`scale` and `normalise` count in float32 (float64 where the tensor is FP64) and give integers as FP32. `cast` to an integer
rounds half to even and clips to the datatype's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from runtime.bundle.part import Datatype, Part
from runtime.tensors import TensorSpec, show_shape

# Larger than any model's input; with it a manifest cannot ask for a terabyte.
MAX_PIXELS_A_SIDE = 16_384
MAX_STEPS = 16
NUMERIC = frozenset(
    {"UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"}
)
_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})

Layout = Literal["NHWC", "NCHW"]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Named(Part):
    """A step, whose JSON always says which one it is, also where defaults are left out."""

    step: str

    @model_serializer(mode="wrap")
    def _with_name(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"step": self.step, **write(self)}


class Resize(_Named):
    """Images to `height` x `width`; a size that is right already is left as it is."""

    step: Literal["resize"] = "resize"
    height: int = Field(ge=1, le=MAX_PIXELS_A_SIDE)
    width: int = Field(ge=1, le=MAX_PIXELS_A_SIDE)
    method: Literal["bilinear", "nearest"] = "bilinear"
    layout: Layout = "NHWC"
    """How the images lie when they come to this step."""

    def apply_to(self, spec: TensorSpec) -> TensorSpec:
        """The spec after this step."""
        _needs_rank(self.step, spec, 4)
        batch, *sizes = spec.shape
        row, column = (0, 1) if self.layout == "NHWC" else (1, 2)
        sizes[row], sizes[column] = self.height, self.width
        return TensorSpec(spec.name, spec.datatype, (batch, *sizes))


class Scale(_Named):
    """Every value times `by`: 1/255 is 0.00392156862745098."""

    step: Literal["scale"] = "scale"
    by: Number

    def apply_to(self, spec: TensorSpec) -> TensorSpec:
        """The spec after this step."""
        return TensorSpec(spec.name, _as_float(spec.datatype), spec.shape)


class Normalise(_Named):
    """`(x - mean) / std`, a number for each channel or one for all."""

    step: Literal["normalise"] = "normalise"
    mean: tuple[Number, ...] = Field(min_length=1)
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(min_length=1)
    axis: int = -1
    """Where the channels are: -1 of NHWC, 1 of NCHW."""

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Normalise:
        if len(self.mean) != len(self.std):
            raise ValueError(f"normalise has {len(self.mean)} means and {len(self.std)} deviations; expected as many")
        return self

    def apply_to(self, spec: TensorSpec) -> TensorSpec:
        """The spec after this step."""
        channels = spec.shape[_axis(self.step, self.axis, spec)]
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"normalise has {len(self.mean)} means, but axis {self.axis} of {spec} has {channels} channels"
            )
        return TensorSpec(spec.name, _as_float(spec.datatype), spec.shape)


class ChangeLayout(_Named):
    """Images from NHWC to NCHW, or back."""

    step: Literal["layout"] = "layout"
    to: Layout

    @property
    def axes(self) -> tuple[int, int, int, int]:
        """The axes of what comes in, in the order of what goes out."""
        return (0, 3, 1, 2) if self.to == "NCHW" else (0, 2, 3, 1)

    def apply_to(self, spec: TensorSpec) -> TensorSpec:
        """The spec after this step."""
        _needs_rank(self.step, spec, 4)
        return TensorSpec(spec.name, spec.datatype, tuple(spec.shape[axis] for axis in self.axes))


class Reorder(_Named):
    """The channels in another order: [2, 1, 0] turns RGB into BGR."""

    step: Literal["reorder"] = "reorder"
    order: tuple[int, ...] = Field(min_length=2)
    axis: int = -1

    @model_validator(mode="after")
    def _is_an_order(self) -> Reorder:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"reorder {list(self.order)} is no order of channels; expected e.g. [2, 1, 0]")
        return self

    def apply_to(self, spec: TensorSpec) -> TensorSpec:
        """The spec after this step."""
        channels = spec.shape[_axis(self.step, self.axis, spec)]
        if channels != len(self.order):
            raise ValueError(f"reorder names {len(self.order)} channels, but axis {self.axis} of {spec} has {channels}")
        return spec


class Cast(_Named):
    """Another datatype."""

    step: Literal["cast"] = "cast"
    datatype: Datatype

    def apply_to(self, spec: TensorSpec) -> TensorSpec:
        """The spec after this step."""
        if self.datatype not in NUMERIC:
            raise ValueError(f"cast to {self.datatype} is not possible; expected one of {', '.join(sorted(NUMERIC))}")
        return TensorSpec(spec.name, self.datatype, spec.shape)


Step = Annotated[
    Resize | Scale | Normalise | ChangeLayout | Reorder | Cast,
    Field(discriminator="step"),
]
Steps = Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)]
STEPS: tuple[type[Part], ...] = (Resize, Scale, Normalise, ChangeLayout, Reorder, Cast)


def spec_after(spec: TensorSpec, steps: Sequence[Step]) -> TensorSpec:
    """What the model gets when a caller sends `spec`; `ValueError` names the step that does not fit what comes to it."""
    if steps and spec.datatype not in NUMERIC:
        raise ValueError(f"input {spec.name!r} is {spec.datatype}; only numbers are preprocessed")
    if steps and not spec.is_batched:
        raise ValueError(f"input {spec.name!r} is {spec}; preprocessing needs a free batch, -1, as its first dimension")
    for number, step in enumerate(steps, 1):
        try:
            spec = step.apply_to(spec)
        except ValueError as error:
            raise ValueError(f"preprocessing step {number} of input {spec.name!r}: {error}") from error
    return spec


def show_step(step: Step) -> str:
    """A step as a person reads it: `resize 32 x 32 bilinear (NHWC)`."""
    match step:
        case Resize():
            return f"resize to {step.height} x {step.width}, {step.method} ({step.layout})"
        case Scale():
            return f"multiply by {step.by:.10g}"
        case Normalise():
            return f"subtract {_numbers(step.mean)}, divide by {_numbers(step.std)} (axis {step.axis})"
        case ChangeLayout():
            return f"{'NHWC' if step.to == 'NCHW' else 'NCHW'} to {step.to}"
        case Reorder():
            return f"channels in the order {', '.join(map(str, step.order))} (axis {step.axis})"
        case Cast():
            return f"cast to {step.datatype}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _as_float(datatype: str) -> str:
    return datatype if datatype in _FLOATS else "FP32"


def _needs_rank(step: str, spec: TensorSpec, rank: int) -> None:
    if len(spec.shape) != rank:
        raise ValueError(f"{step} takes images of {rank} dimensions; what comes to it is {show_shape(spec.shape)}")


def _axis(step: str, axis: int, spec: TensorSpec) -> int:
    rank = len(spec.shape)
    place = axis + rank if axis < 0 else axis
    if not 0 < place < rank:
        raise ValueError(f"axis {axis} of {step} is not one of {show_shape(spec.shape)} after the batch")
    return place

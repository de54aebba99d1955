"""Which features a model's tensors have: the rule, and the numbers of each row that it takes.

A tensor [batch] or [batch, n] of at most 128 columns is tabular: every column is a feature. An image ([batch, channels,
height, width] or [batch, height, width, channels] of 1, 3 or 4 channels) is told by its brightness, contrast, sharpness,
where its light lies, its darkest and lightest pixel (haze, exposure) and how much of it is flat (noise). Any other tensor by
the mean, spread and range of each row, and numbers [batch, n] (an embedding, a recording) by where they lie along a few
directions too. The values *inside* one row are never treated as independent observations: pixels of an image are not. Scores
of a classifier add the predicted class, its probability, the entropy, and class and probability jointly, which is where many
models show a change of several inputs together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from runtime.monitoring.moments import Numbers
from runtime.tensors import Array

MAX_COLUMNS: Final = 128
MAX_SCORE_COLUMNS: Final = 16
"""Of a classifier's scores; beyond, class, confidence and entropy say it."""
MAX_FEATURES: Final = 512
CHANNELS: Final = (1, 3, 4)
MIN_SIDE: Final = 4
IMAGE_WORDS: Final = (
    "brightness", "contrast", "sharpness", "centre_y", "centre_x", "darkest", "lightest", "flatness",
)  # fmt: skip
FLAT: Final = 0.02
"""Neighbours that differ by less of the image's own range are flat; little of any picture is once there is noise on it."""
JOINT_BOUNDS: Final = (0.5, 0.8, 0.95)
"""Of the probability of the predicted class: four steps of sureness beside each class."""
DIRECTIONS: Final = 8
"""The first waves of a cosine transform, which are at right angles to each other and to the mean. Columns of an embedding have no
order, so these are as good as any drawn by chance, and the same on every device; where columns have one (a spectrum, a recording)
they are its slope and its bends."""
MAX_DIRECTED_COLUMNS: Final = 16384
"""Of wider rows, and of rows whose width is the caller's choice, no directions: they take 64 bytes a column, for each width."""
_FLOATS: Final = frozenset({"FP16", "FP32", "FP64", "BF16"})
_DIRECTED: Final = _FLOATS - {"BF16"}
"""numpy has no kind of its own for bfloat16."""
_SUM_TOLERANCE: Final = 0.05


class Role(StrEnum):
    """Which side of the model a feature lies on."""

    INPUT = "input"
    OUTPUT = "output"


class Kind(StrEnum):
    """What a feature's values are."""

    NUMBER = "number"
    CATEGORY = "category"


class TensorLike(Protocol):
    """What is asked of a declared tensor: `runtime.tensors.TensorSpec` and the manifest's `Tensor` are two."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def datatype(self) -> str:
        """The protocol's datatype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """-1 for a free dimension, the batch first."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One number or category of every row."""

    name: str
    tensor: str
    role: Role
    kind: Kind
    take: str
    low: float | None = None
    high: float | None = None


def features_of(
    inputs: Sequence[TensorLike],
    outputs: Sequence[TensorLike],
    *,
    is_classifier: bool,
    ranges: Mapping[str, tuple[float, float]],
) -> tuple[Feature, ...]:
    """Every feature, inputs first; `ranges`: declared bounds by tensor."""
    found: list[Feature] = []
    for tensor in inputs:
        found += _of_tensor(tensor, Role.INPUT, ranges.get(tensor.name))
    for tensor in outputs:
        if is_classifier and _is_score(tensor):
            found += _of_scores(tensor, ranges.get(tensor.name))
        else:
            found += _of_tensor(tensor, Role.OUTPUT, ranges.get(tensor.name))
    return tuple(found[:MAX_FEATURES])


def columns(
    features: Sequence[Feature], inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, Numbers | list[Any]]:
    """The values of every feature, one a row: float64 for numbers, a list for categories. A tensor that is not there is left out.

    Nothing in it raises on NaN, infinities or rows of none.
    """
    found: dict[str, Numbers | list[Any]] = {}
    memory: dict[tuple[str, str], Any] = {}
    with np.errstate(all="ignore"):
        for feature in features:
            value = (inputs if feature.role is Role.INPUT else outputs).get(feature.tensor)
            if value is None or value.ndim == 0:
                continue
            taken = _take(feature, value, memory)
            if taken is not None:
                found[feature.name] = taken
    return found


def _of_tensor(tensor: TensorLike, role: Role, bounds: tuple[float, float] | None) -> list[Feature]:
    shape = tensor.shape
    if not shape or shape[0] != -1:
        return []
    low, high = bounds or (None, None)
    is_category = tensor.datatype in ("BYTES", "BOOL")
    width = math.prod(shape[1:])
    if len(shape) <= 2 and 0 < width <= MAX_COLUMNS:
        kind = Kind.CATEGORY if is_category else Kind.NUMBER
        single = len(shape) == 1 or width == 1
        return [
            Feature(
                tensor.name if single else f"{tensor.name}[{at}]", tensor.name, role, kind, f"column:{at}", low, high
            )
            for at in range(width)
        ]
    if tensor.datatype == "BYTES":
        return [Feature(f"{tensor.name}.length", tensor.name, role, Kind.NUMBER, "length")]
    if axes_of_image(shape) is not None and not is_category:
        words: tuple[str, ...] = IMAGE_WORDS
        bounded = {"brightness": (low, high), "darkest": (low, high), "lightest": (low, high)}
    else:
        words = ("mean", "std", "min", "max")
        bounded = {"mean": (low, high), "min": (low, high), "max": (low, high)}
        if len(shape) == 2 and 0 < width <= MAX_DIRECTED_COLUMNS and tensor.datatype in _DIRECTED:
            words += tuple(f"direction_{at}" for at in range(1, DIRECTIONS + 1))
    return [
        Feature(f"{tensor.name}.{word}", tensor.name, role, Kind.NUMBER, word, *bounded.get(word, (None, None)))
        for word in words
    ]


def _of_scores(tensor: TensorLike, bounds: tuple[float, float] | None) -> list[Feature]:
    name, output = tensor.name, Role.OUTPUT
    found = [
        Feature(f"{name}.class", name, output, Kind.CATEGORY, "class"),
        Feature(f"{name}.confidence", name, output, Kind.NUMBER, "confidence"),
        Feature(f"{name}.entropy", name, output, Kind.NUMBER, "entropy"),
        Feature(f"{name}.class_and_confidence", name, output, Kind.CATEGORY, "joint"),
    ]
    return found + (_of_tensor(tensor, output, bounds) if tensor.shape[1] <= MAX_SCORE_COLUMNS else [])


def _is_score(tensor: TensorLike) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[1] > 1 and tensor.datatype in _FLOATS


def axes_of_image(shape: Sequence[int]) -> tuple[int, int] | None:
    """(height, width) axes; a free dimension may be any size."""
    if len(shape) == 3:
        return (1, 2) if all(side == -1 or side >= MIN_SIDE for side in shape[1:]) else None
    if len(shape) != 4:
        return None
    for channel, axes in ((1, (2, 3)), (3, (1, 2))):
        if shape[channel] in CHANNELS and all(shape[at] == -1 or shape[at] >= MIN_SIDE for at in axes):
            return axes
    return None


def _take(feature: Feature, value: Array, memory: dict[tuple[str, str], Any]) -> Numbers | list[Any] | None:
    word, _, argument = feature.take.partition(":")
    if word == "column":
        flat = value.reshape(len(value), -1)
        at = int(argument)
        if at >= flat.shape[1]:
            return None
        column = flat[:, at]
        return column.tolist() if feature.kind is Kind.CATEGORY else column.astype(np.float64)
    if word == "length":
        lengths = [len(item) for item in value.reshape(-1).tolist()]
        return np.array(lengths, np.float64).reshape(len(value), -1).mean(axis=1) if lengths else np.zeros(len(value))
    key = (feature.role, feature.tensor)
    if key not in memory:
        is_score = word in ("class", "confidence", "entropy", "joint")
        memory[key] = _of_rows_scores(value) if is_score else _of_rows(value)
    found: Numbers | list[Any] | None = memory[key].get(word)
    return found


def _of_rows(value: Array) -> dict[str, Any]:
    rows = len(value)
    flat = value.reshape(rows, -1).astype(np.float32 if value.dtype.itemsize <= 4 else np.float64)
    if not flat.shape[1]:
        return {}
    found: dict[str, Any] = {}
    mean = flat.mean(axis=1, dtype=np.float64)
    found["mean"] = found["brightness"] = mean
    found["std"] = found["contrast"] = flat.std(axis=1, dtype=np.float64)
    if value.ndim == 2 and value.dtype.kind == "f" and MAX_COLUMNS < flat.shape[1] <= MAX_DIRECTED_COLUMNS:
        along: Numbers = np.dot(flat, _directions(flat.shape[1]))
        found |= {f"direction_{at + 1}": along[:, at].astype(np.float64) for at in range(DIRECTIONS)}
    axes = axes_of_image((-1, *value.shape[1:]))
    least, most = flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
    if axes is None:
        return found | {"min": least, "max": most}
    found["darkest"], found["lightest"] = least, most
    image = flat.reshape(value.shape)
    rest = tuple(at for at in range(1, image.ndim) if at not in axes)
    if rest:
        image = image.mean(axis=rest)
    steps = [np.abs(np.diff(image, axis=axis)) for axis in (1, 2)]
    found["sharpness"] = sum(part.mean(axis=(1, 2), dtype=np.float64) for part in steps) / 2
    small = (FLAT * (most - least)).astype(flat.dtype)[:, None, None]
    # A row that is not finite has no range: it is not flat, and its other words say so.
    flats = sum((part <= small).mean(axis=(1, 2)) for part in steps) / 2
    found["flatness"] = np.where(np.isfinite(most - least), flats, np.nan)
    light = np.abs(image)
    total = light.sum(axis=(1, 2), dtype=np.float64)
    for name, axis, other in (("centre_y", 1, 2), ("centre_x", 2, 1)):
        places = np.linspace(0.0, 1.0, image.shape[axis])
        centre = light.sum(axis=other, dtype=np.float64) @ places / total
        found[name] = np.where(total == 0, 0.5, centre)
    return found


@lru_cache(maxsize=8)
def _directions(width: int) -> Numbers:
    """[width, direction], each of length 1."""
    places = (np.arange(width)[:, None] + 0.5) * np.arange(1, DIRECTIONS + 1)
    return np.asarray(np.cos(np.pi / width * places) * math.sqrt(2 / width), np.float64)


def _of_rows_scores(value: Array) -> dict[str, Any]:
    scores = value.reshape(len(value), -1).astype(np.float64)
    if not scores.shape[1]:
        return {}
    is_good: npt.NDArray[np.bool_] = np.asarray(np.isfinite(scores).all(axis=1))
    if not is_good.all():
        scores = np.where(is_good[:, None], scores, np.nan)
    good = scores[is_good]
    are_probabilities = bool((good >= 0).all() and (np.abs(good.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())
    if are_probabilities:
        chances = scores
    else:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances = powers / powers.sum(axis=1, keepdims=True)
    logs = np.log(np.where(chances > 0, chances, 1.0))
    confidence = chances.max(axis=1)
    classes = np.where(is_good, np.nan_to_num(scores).argmax(axis=1), -1)
    steps = np.searchsorted(JOINT_BOUNDS, np.nan_to_num(confidence), side="right")
    names = ["none" if c < 0 else str(c) for c in classes.tolist()]
    sure = ("<50%", "50-80%", "80-95%", ">95%")
    return {
        "class": names,
        "confidence": confidence,
        "entropy": -(chances * logs).sum(axis=1),
        "joint": [f"{name} {sure[step]}" for name, step in zip(names, steps.tolist(), strict=True)],
    }

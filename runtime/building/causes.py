"""Why an accuracy may have collapsed: what else callers' values could have meant, tried on the model's tensors.

Pure. Each alteration undoes one usual mistake (values in another range, colours in another order, axes swapped);
whichever brings the accuracy back is the likely cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from runtime.tensors import Array

DECISIVE_GAIN: Final = 0.10
"""An alteration that gains so many points, beyond three standard errors, was meant: a judgement, not a measurement."""
CHANNELS: Final = 3
# Means and deviations of ImageNet's training images in 0..1 (torchvision, "transforms"), which most image models take.
_IMAGENET_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD: Final = np.array([0.229, 0.224, 0.225], np.float32)
# Up to here values look like shares rather than like pixels of 0..255.
_LARGEST_SHARE: Final = 3.0

_VALUES: Final[Mapping[str, tuple[Callable[[Array], Array], str]]] = {
    "times-255": (
        lambda x: x * np.float32(255),
        "multiplied by 255: the model wants 0..255, not 0..1 (leave out `scale:1/255`, or declare `scale:255`)",
    ),
    "by-255": (
        lambda x: x * np.float32(1 / 255),
        "divided by 255: the model wants 0..1, not 0..255 (declare `scale:1/255`)",
    ),
    "share-to-signed": (
        lambda x: x * np.float32(2) - np.float32(1),
        "spread from 0..1 to -1..1 (declare `normalise:0.5/0.5` after the scale)",
    ),
    "signed-to-share": (
        lambda x: (x + np.float32(1)) * np.float32(0.5),
        "brought from -1..1 to 0..1 (leave out `normalise:0.5/0.5`)",
    ),
    "signed-to-byte": (
        lambda x: (x + np.float32(1)) * np.float32(127.5),
        "brought from -1..1 to 0..255 (leave the preprocessing of values out)",
    ),
    "byte-to-signed": (
        lambda x: x * np.float32(1 / 127.5) - np.float32(1),
        "brought from 0..255 to -1..1 (declare `normalise:127.5/127.5`)",
    ),
    "share-to-imagenet": (
        lambda x: _per_channel(x, _IMAGENET_MEAN, _IMAGENET_STD),
        "normalised as ImageNet (declare `normalise:0.485,0.456,0.406/0.229,0.224,0.225` after the scale)",
    ),
    "byte-to-imagenet": (
        lambda x: _per_channel(x * np.float32(1 / 255), _IMAGENET_MEAN, _IMAGENET_STD),
        "normalised as ImageNet (declare `scale:1/255` and `normalise:0.485,0.456,0.406/0.229,0.224,0.225`)",
    ),
    "imagenet-to-share": (
        lambda x: _per_channel(x, -_IMAGENET_MEAN / _IMAGENET_STD, 1 / _IMAGENET_STD),
        "brought back from ImageNet's mean and deviation to 0..1 (leave out the normalisation)",
    ),
    "inverted": (
        lambda x: x.max() + x.min() - x,
        "inverted: light is dark (declare `scale:-1` and `normalise:-255/1`, for values of 0..1 `normalise:-1/1`)",
    ),
}
_PLACES: Final[Mapping[str, tuple[Callable[[Array], Array], str]]] = {
    "bgr": (
        lambda x: np.ascontiguousarray(np.flip(x, axis=_channel_axis(x))),
        "with the channels in reverse: the model wants BGR where it gets RGB, or the other way round (declare `reorder:2,1,0`)",
    ),
    "rows-as-columns": (
        lambda x: np.ascontiguousarray(x.swapaxes(*_image_axes(x))),
        "with height and width swapped (the images lie on their side)",
    ),
    "was-nhwc": (
        lambda x: np.ascontiguousarray(x.reshape(len(x), *x.shape[2:], x.shape[1]).transpose(0, 3, 1, 2)),
        "read as NHWC and transposed to NCHW: the rows were reshaped, not transposed (declare `layout:NCHW`)",
    ),
    "was-nchw": (
        lambda x: np.ascontiguousarray(x.reshape(len(x), x.shape[3], *x.shape[1:3]).transpose(0, 2, 3, 1)),
        "read as NCHW and transposed to NHWC: the rows were reshaped, not transposed (declare `layout:NHWC`)",
    ),
}
_ALL: Final = {**_VALUES, **_PLACES}


def alterations_for(inputs: Mapping[str, Array]) -> tuple[str, ...]:
    """Those worth trying on the model's tensors, the likeliest first: of values, of places, and both at once."""
    values = _value_names(inputs)
    places = _place_names(inputs)
    return (*values, *places, *(f"{value}+{place}" for value in values for place in places))


def altered(name: str, value: Array) -> Array:
    """One of the model's tensors after the alteration; what is no float keeps its values, what is no image its places."""
    for part in name.split("+"):
        if part in _VALUES and value.dtype.kind == "f":
            if not part.endswith("imagenet") or _has_channels(value):
                value = _VALUES[part][0](value).astype(value.dtype, copy=False)
        elif part in _PLACES and value.ndim == 4 and (part != "bgr" or _has_channels(value)):
            value = _PLACES[part][0](value)
    return value


def advice(name: str) -> str:
    """What the alteration did, and what to declare."""
    return " and ".join(_ALL[part][1] for part in name.split("+"))


def is_decisive(accuracy: float, other: float, rows: int) -> bool:
    """Whether `other` is better than chance alone would make it."""
    error = (max(other * (1 - other), accuracy * (1 - accuracy), 1 / rows) / rows) ** 0.5
    return bool(other - accuracy > max(DECISIVE_GAIN, 3 * error))


def is_guessing(accuracy: float, labels: Array) -> bool:
    """Whether always giving the most frequent label would be as right, within three standard errors."""
    _, counts = np.unique(labels, return_counts=True)
    share = float(counts.max()) / len(labels)
    return bool(accuracy <= share + 3 * (share * (1 - share) / len(labels)) ** 0.5)


def _value_names(inputs: Mapping[str, Array]) -> list[str]:
    floats = [value for value in inputs.values() if value.dtype.kind == "f" and value.size]
    if not floats:
        return []
    low = min(float(np.nanmin(value)) for value in floats)
    high = max(float(np.nanmax(value)) for value in floats)
    has_channels = any(_has_channels(value) for value in floats)
    if max(-low, high) > _LARGEST_SHARE:
        names = ["by-255", "byte-to-signed", *(["byte-to-imagenet"] if has_channels else [])]
    elif low < 0:
        names = ["signed-to-byte", "signed-to-share", *(["imagenet-to-share"] if has_channels else [])]
    else:
        names = ["times-255", "share-to-signed", *(["share-to-imagenet"] if has_channels else [])]
    return [*names, "inverted"]


def _place_names(inputs: Mapping[str, Array]) -> list[str]:
    images = [value for value in inputs.values() if value.ndim == 4]
    names = ["bgr"] if any(_has_channels(value) for value in images) else []
    if any(value.shape[_channel_axis(value)] > 1 for value in images):
        names.append("was-nhwc" if any(_channel_axis(value) == 1 for value in images) else "was-nchw")
    if images and all(value.shape[a] == value.shape[b] for value in images for a, b in [_image_axes(value)]):
        names.append("rows-as-columns")
    return names


def _channel_axis(images: Array) -> int:
    """1 of NCHW, 3 of NHWC: channels are fewer than pixels."""
    return 1 if images.shape[1] < images.shape[3] else 3


def _image_axes(images: Array) -> tuple[int, int]:
    return (2, 3) if _channel_axis(images) == 1 else (1, 2)


def _has_channels(value: Array) -> bool:
    return value.ndim == 4 and value.shape[_channel_axis(value)] == CHANNELS


def _per_channel(images: Array, mean: Array, std: Array) -> Array:
    shape = [1, 1, 1, 1]
    shape[_channel_axis(images)] = CHANNELS
    result: Array = (images - mean.reshape(shape)) / std.reshape(shape)
    return result

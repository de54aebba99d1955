"""A folder of images as rows, in the order of their paths: pixels in the input's layout, the rest is the bundle's preprocessing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import BackendUnavailableError, InvalidInputError
from runtime.row_files.block import Block, Group, InputSpec, Unreadable
from runtime.row_files.image_names import SortedNames, image_files
from runtime.row_files.stacking import fits
from runtime.tensors import Array, show_shape

# Decoded: a file of some kilobytes can ask for gigabytes. A camera of 64 megapixels stays below it.
MAX_PIXELS = 100_000_000
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class _Pixels:
    """How pixels lie in the input."""

    channels: int
    is_channels_first: bool


class ImageRows:
    """A `RowReader`: a row a file. Sub-folders too; what is no image by its suffix is no row."""

    unused: Sequence[str] = ()
    assumed = ""

    def __init__(self, folder: Path, specs: Sequence[InputSpec], within: Sequence[Path] | None = None) -> None:
        self._folder = folder
        self._within = None if within is None else [allowed.resolve() for allowed in within]
        self._spec = _image_input(specs)
        self._pixels = _pixels_of(self._spec)
        self._names = SortedNames(name for name, _ in image_files(folder))
        self.rows: int | None = len(self._names)
        self._at = 0

    def skip(self, rows: int) -> None:
        """Goes past rows."""
        self._names.skip(rows)
        self._at += rows

    def close(self) -> None:
        """Forgets the names."""
        self._names.close()

    def read(self, rows: int) -> Block | None:
        """The next rows; images of different sizes come in groups of one size."""
        first = self._at
        files = self._names.take(rows)
        if not files:
            return None
        self._at += len(files)
        groups: dict[tuple[int, ...], list[tuple[int, Array]]] = {}
        bad = []
        for number, name in enumerate(files, first):
            try:
                image = self._read(name)
            except InvalidInputError as error:
                bad.append(Unreadable(number, str(error), name))
                continue
            groups.setdefault(image.shape, []).append((number, image))
        stacked = tuple(
            Group(tuple(number for number, _ in members), {self._spec.name: np.stack([image for _, image in members])})
            for members in groups.values()
        )
        return Block(first, len(files), stacked, tuple(bad), tuple(files))

    def _read(self, name: str) -> Array:
        # No `Path` an image: each would leave its name in the interpreter's table of interned strings.
        path = f"{self._folder}/{name}"
        pixels = _decode(path if self._within is None else self._followed(Path(path)), _MODES[self._pixels.channels])
        image = pixels.reshape((*pixels.shape[:2], self._pixels.channels))
        if self._pixels.is_channels_first:
            image = image.transpose(2, 0, 1)
        if not fits(self._spec, image.shape):
            raise InvalidInputError(
                f"the image is {pixels.shape[0]} x {pixels.shape[1]} pixels; the model takes "
                f"{show_shape(self._spec.row_shape)} and its bundle declares no resize before that"
            )
        dtype = self._spec.tensor.dtype
        if dtype == np.uint8:
            return np.ascontiguousarray(image)
        assert self._spec.value_range is not None, "checked when it was opened"
        low, high = self._spec.value_range
        scaled = image.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
        return np.ascontiguousarray(scaled.astype(dtype))

    def _followed(self, path: Path) -> Path:
        """Where the image really lies; `InvalidInputError` where a link leads out of the folders that it must lie in."""
        assert self._within is not None, "asked only where there are such folders"
        real = path.resolve()
        if not any(real.is_relative_to(allowed) for allowed in self._within):
            raise InvalidInputError("the image is a link out of the folders that may be read; put a copy there instead")
        return real


@contextmanager
def open_images(folder: Path, specs: Sequence[InputSpec], within: Sequence[Path] | None = None) -> Iterator[ImageRows]:
    """The images below `folder`; `InvalidInputError` for a model that takes none, `BackendUnavailableError` without Pillow.

    `within`: an image that lies in none of these folders, by a link, is a row that cannot be read; None: links are followed.
    """
    _pillow()
    rows = ImageRows(folder, specs, within)
    try:
        yield rows
    finally:
        rows.close()


def _image_input(specs: Sequence[InputSpec]) -> InputSpec:
    if len(specs) != 1:
        raise InvalidInputError(
            f"a folder of images makes one input, and the model has {len(specs)}; write a .npz with an array for each"
        )
    return specs[0]


def _pixels_of(spec: InputSpec) -> _Pixels:
    shape = spec.row_shape
    wanted = f"input {spec.name!r} is {spec.tensor}"
    if len(shape) != 3 or not (shape[2] in _MODES or shape[0] in _MODES):
        raise InvalidInputError(f"{wanted}, which is no image of 1, 3 or 4 channels; write a .npz")
    if spec.tensor.datatype != "UINT8":
        if spec.tensor.dtype.kind != "f":
            raise InvalidInputError(f"{wanted}; images are read for UINT8 and floats; write a .npz")
        if spec.value_range is None:
            raise InvalidInputError(
                f"{wanted}, and the bundle does not say which range its values have, so pixels of 0 to 255 cannot be brought "
                "into it; declare the range or preprocessing in the bundle's manifest, or write a .npz"
            )
    is_last = shape[2] in _MODES
    return _Pixels(shape[2] if is_last else shape[0], not is_last)


def _decode(path: Path | str, mode: str) -> Array:
    image_module = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a decompression bomb is only warned of
            with image_module.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InvalidInputError(
                        f"the image has {image.width} x {image.height} pixels; at most {MAX_PIXELS}"
                    )
                return np.asarray(image.convert(mode))
    except InvalidInputError:
        raise
    except Exception as error:  # its decoders raise whatever they come across
        raise InvalidInputError(f"no image: {type(error).__name__}: {error}") from error


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise BackendUnavailableError(
            "images need Pillow, which is not installed; install edgeward[batch], or write a .npz"
        ) from error
    return Image

"""An input as a person can judge it: images as pictures, everything else as a small table; pure."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.monitoring.layout import axes_of_image
from runtime.tensors import Array

MOST_ROWS: Final = 16
MOST_COLUMNS: Final = 64
MOST_TEXT: Final = 200
# A larger picture is thinned out: a person sees it on a page, and it lies in the database until it is answered.
MOST_SIDE: Final = 512
_COLOURS: Final = {1: 0, 3: 2, 4: 6}
"""Of PNG, by channels: grey, RGB, RGB with alpha."""


def exhibit(inputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    """One document a tensor, in types that JSON has: `name`, `datatype`, `shape`, and `images` (data URLs) or `table` (rows).

    The first `MOST_ROWS` rows, of a table the first `MOST_COLUMNS` values of each.
    """
    return [_tensor(name, np.asarray(value)) for name, value in inputs.items()]


def _tensor(name: str, value: Array) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "datatype": str(value.dtype), "shape": list(value.shape)}
    axes = axes_of_image((-1, *value.shape[1:])) if value.dtype.kind in "fiu" else None
    if axes is not None:
        rows = value[:MOST_ROWS] if value.ndim == 4 else value[:MOST_ROWS, ..., None]
        upright = np.moveaxis(rows, 1, -1) if axes == (2, 3) else rows
        return {**told, "images": [_data_url(pixels(image)) for image in upright]}
    if not value.size:
        return {**told, "table": []}
    flat = value.reshape(value.shape[0] if value.ndim > 1 else value.size, -1)
    return {**told, "table": [[_cell(one) for one in row[:MOST_COLUMNS].tolist()] for row in flat[:MOST_ROWS]]}


def pixels(image: Array) -> NDArray[np.uint8]:
    """`image`, [height, width, channel], in 0..255 and with no side over `MOST_SIDE`.

    Values in 0..1 and 0..255 keep their meaning; others, such as normalised ones, span from black to white.
    """
    step = ceil(max(image.shape[:2]) / MOST_SIDE)
    thinned = image[::step, ::step]
    if thinned.dtype == np.uint8:
        return np.ascontiguousarray(thinned)
    values = np.nan_to_num(thinned.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 255.0:
        scaled = values * (255.0 if high <= 1.0 else 1.0)
    else:
        scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))


def png(image: NDArray[np.uint8]) -> bytes:
    """`image`, [height, width, channel], as a PNG (W3C PNG, third edition: each line unfiltered behind a 0)."""
    height, width, channels = image.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = image.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def _data_url(image: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")[:MOST_TEXT]
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) else str(value)
    return value if isinstance(value, bool | int) else str(value)[:MOST_TEXT]

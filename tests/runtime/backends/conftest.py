"""Tiny models, one in each format, that all compute the same: y = x @ WEIGHT + BIAS, x [batch, 4], y [batch, 3]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runtime.bundle.manifest import Format
from tests.affine import write_affine

WEIGHT = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [-1, 0, 1]], np.float32)
BIAS = np.array([0.5, -0.5, 2.0], np.float32)


@pytest.fixture(scope="session")
def affine() -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The oracle."""
    return lambda x: x @ WEIGHT + BIAS


@pytest.fixture(scope="session")
def affine_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Format], Path]:
    """The model file of a format, made once; skips where the library that makes it is absent."""
    folder = tmp_path_factory.mktemp("affine")

    def file(format_: Format) -> Path:
        path = folder / f"affine.{format_.value}"
        if not path.exists():
            write_affine(path, format_, WEIGHT, BIAS)
        return path

    return file

"""The models: as ONNX in fp32, in fp16 by the bundle builder's own recipe, and as an exported program of PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from benchmarks.selection import networks
from runtime.building.onnx_recipes import write_fp16
from runtime.tensors import Array

DIGITS: Final = Path(__file__).resolve().parents[2] / "runtime" / "models" / "digits" / "variants" / "fp32.onnx"
BUILDERS: Final[dict[str, Callable[[], onnx.ModelProto]]] = {
    "digits": lambda: onnx.load(str(DIGITS)),
    "resnet-8": networks.resnet_8,
    "transformer": networks.transformer,
    "mobilenet-v2": networks.mobilenet_v2,
    "resnet-18": lambda: networks.resnet(18),
    "resnet-50": lambda: networks.resnet(50),
}
"""Random weights but for the digits, whose inputs need not be digits: speed does not ask what is in a picture."""
QUICK: Final = ("digits", "resnet-18")


@dataclass(frozen=True, slots=True)
class Files:
    """One model's files below a folder; one that could not be made has its reason beside it."""

    folder: Path

    def path(self, kind: str) -> Path:
        """Of "fp32.onnx", "fp16.onnx" or "fp32.pt2"; `MissingError` with the reason when it could not be made."""
        path = self.folder / kind
        if path.is_file():
            return path
        reason = self.folder / f"{kind}.txt"
        raise MissingError(reason.read_text(encoding="utf-8") if reason.is_file() else f"{kind} was not made")

    def rows(self, count: int) -> Array:
        """So many rows of the input, in 0..1, the same ones every time."""
        value = onnx.load(str(self.path("fp32.onnx")), load_external_data=False).graph.input[0]
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
        return np.random.default_rng(1).random((count, *shape), dtype=np.float32)


class MissingError(Exception):
    """Why a file of a model is not there."""


def prepare(name: str, folder: Path) -> Files:
    """Makes the files of a model, unless they are there. Takes seconds."""
    files = Files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "fp32.onnx"
    if not source.is_file():
        partial = folder / "fp32.partial"
        onnx.save(BUILDERS[name](), str(partial))
        partial.rename(source)
    _make(files, "fp16.onnx", lambda target: write_fp16(source, target))
    _make(files, "fp32.pt2", lambda target: _write_program(source, target))
    return files


def _make(files: Files, kind: str, write: Callable[[Path], None]) -> None:
    target, reason = files.folder / kind, files.folder / f"{kind}.txt"
    if target.is_file():
        return
    partial = files.folder / f"partial.{kind}"
    try:
        write(partial)
    except Exception as error:  # one format less
        reason.write_text(f"it could not be made: {' '.join(str(error).split())[:300]}", encoding="utf-8")
        return
    partial.rename(target)


def _write_program(source: Path, target: Path) -> None:
    if find_spec("torch") is None:
        raise MissingError("torch is not installed")
    from benchmarks.selection.torch_graph import save_program

    save_program(onnx.load(str(source)), target)


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))

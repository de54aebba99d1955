"""What is measured: the bundle that ships, models that nobody here trained, and networks with random weights.

Every bundle but the shipped one is made by `edgeward bundle build`'s own `build_bundle` (see `bundles`) of what stands here: a
source and rows. A network is an exported program where PyTorch is installed, which leads to every recipe, and else an ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.tensors import Array

SHARED: Final = Path(__file__).resolve().parents[3] / "shared"
"""Models and data that nobody here trained; not part of the project."""
ROWS: Final = 80
"""Of random inputs: all but those that calibrate are held out, 64, which is what the guard asks for at least."""
CALIBRATION_ROWS: Final = 16
"""Of random inputs: ranges of uniform noise are seen in few rows, and a large network takes a second a row."""
FLOOR: Final = 0.9
"""Of agreement with the source: a random network has no other truth."""


class Skipped(Exception):  # noqa: N818  (no error: the model is not here)
    """Why a model is not measured."""


@dataclass(frozen=True, slots=True)
class Material:
    """What `build_bundle` is given; the flags are those of `edgeward bundle build`."""

    source: Path
    inputs: Mapping[str, Array]
    labels: Array | None = None
    steps: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)

    def write_rows(self, file: Path) -> None:
        """The rows as a file for `build_bundle`."""
        labels = {} if self.labels is None else {"labels": self.labels}
        np.savez(file, allow_pickle=False, **self.inputs, **labels)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure."""

    name: str
    prepare: Callable[[Path], Material] | None = None
    """Writes the source into a folder where need be; `Skipped` where it cannot be had. None: the bundle ships under this name."""
    is_quick: bool = False
    """Whether --quick measures it, too."""


def subjects() -> tuple[Subject, ...]:
    """All of them, the small ones first."""
    return (
        Subject("digits", is_quick=True),
        Subject("mnist", _mnist, is_quick=True),
        Subject("keyword-int8", lambda folder: _keyword("kws_int8_qdq.onnx", 490)),
        Subject("keyword-tflite", lambda folder: _keyword("kws_fp32.tflite", 49, 10, 1)),
        Subject(
            "resnet-8", lambda folder: _resnet_8("ic_resnet8_fp32.onnx", "layout:NCHW", "cast:FP32"), is_quick=True
        ),
        Subject("resnet-8-tflite", lambda folder: _resnet_8("ic_resnet8_fp32.tflite", "cast:FP32")),
        Subject("perceptron", lambda folder: _network(folder, "perceptron"), is_quick=True),
        Subject("boosted-trees", _boosted_trees),
        Subject("transformer", lambda folder: _network(folder, "transformer"), is_quick=True),
        Subject("mobilenet-v2", lambda folder: _network(folder, "mobilenet_v2")),
        Subject("resnet-18", lambda folder: _network(folder, "resnet", 18)),
        Subject("resnet-50", lambda folder: _network(folder, "resnet", 50)),
    )


def beside(name: str) -> Path:
    """A file that lies beside the checkout; `Skipped` where it does not."""
    path = SHARED / name
    if not path.is_file():
        raise Skipped(f"{path.name} is not beside the checkout")
    return path


def _mnist(folder: Path) -> Material:
    with np.load(beside("data/mnist_test_1000.npz")) as data:
        images, labels = data["images"][:, np.newaxis], data["labels"].reshape(-1)
    source = beside("models/mnist/mnist_fp32.onnx")
    return Material(source, {"image": images}, labels, ("cast:FP32",), {"accuracy_floor": 0.97})


def _resnet_8(file: str, *steps: str) -> Material:
    """MLPerf Tiny's image classification, on its raw pixels [row, height, width, channel]."""
    with np.load(beside("data/cifar10_test_500.npz")) as data:
        images, labels = data["images"], data["labels"].reshape(-1)
    return Material(beside(f"models/mlperf_tiny/{file}"), {"image": images}, labels, steps, {"accuracy_floor": 0.7})


def _keyword(file: str, *shape: int) -> Material:
    """MLPerf Tiny's keyword spotting; nothing that it was trained on is here, so rows are noise and agreement alone is held."""
    source = beside(f"models/mlperf_tiny/{file}")
    rows = np.random.default_rng(1).uniform(0, 1, (ROWS, *shape)).astype(np.float32)
    return Material(source, {"input": rows}, flags={"task": "classification", "accuracy_floor": FLOOR})


def _network(folder: Path, name: str, *arguments: int) -> Material:
    from benchmarks.selection import networks

    return _of_graph(folder, getattr(networks, name)(*arguments), task="classification")


def _boosted_trees(folder: Path) -> Material:
    """An operator of ai.onnx.ml, which neither PyTorch nor LiteRT has."""
    from benchmarks.selection import networks

    return _of_graph(folder, networks.boosted_trees(), task="regression", is_program=False)


def _of_graph(folder: Path, model: Any, task: str, *, is_program: bool = True) -> Material:
    import onnx

    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    rows = np.random.default_rng(1).uniform(0, 1, (ROWS, *shape)).astype(np.float32)
    if is_program and find_spec("torch") is not None:
        from benchmarks.selection.torch_graph import save_program

        source = folder / "model.pt2"
        save_program(model, source)
    else:
        source = folder / "model.onnx"
        onnx.save(model, str(source))
    flags = {"task": task, "accuracy_floor": FLOOR, "calibration_rows": CALIBRATION_ROWS}
    return Material(source, {"x": rows}, flags=flags)

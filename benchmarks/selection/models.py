"""What is measured: networks with random weights as bundles of float and int8, the model that ships, and models beside us."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.selection import networks
from runtime.backends.base import RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.bundle.manifest import (
    Format,
    Mapping,
    ModelDescription,
    Targets,
    Task,
    Tensor,
    TensorMapping,
    VariantDescription,
)
from runtime.bundle.samples import Samples
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle
from runtime.tensors import Array

SHARED = Path(__file__).resolve().parents[3] / "shared"
"""Models and data that nobody here trained; not part of the project."""
ROWS = 64
"""Of samples: what the guard asks for at least."""
CALIBRATION_ROWS = 8
FLOOR = 0.9
"""Of agreement with the float network, whose arg max is the label: random networks have no other truth."""


class Skipped(Exception):  # noqa: N818  (no error: the model is not here)
    """Why a model is not measured."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure, by the source that `edgeward.load` takes."""

    name: str
    make: Callable[[Path], str]
    """Builds it below a folder, if need be, and gives the source; `Skipped` where it cannot be had."""
    is_quick: bool = False
    """Whether --quick measures it, too."""


def subjects() -> tuple[Subject, ...]:
    """All of them, the small ones first."""
    return (
        Subject("digits", lambda folder: "digits", is_quick=True),
        Subject("mnist", lambda folder: _beside("mnist/mnist_fp32.onnx"), is_quick=True),
        Subject("keyword-int8", lambda folder: _beside("mlperf_tiny/kws_int8_qdq.onnx")),
        Subject("keyword-tflite", lambda folder: _beside("mlperf_tiny/kws_fp32.tflite")),
        Subject("resnet-8", _resnet_8, is_quick=True),
        Subject("perceptron", lambda folder: _network(folder, "perceptron", networks.perceptron), is_quick=True),
        Subject(
            "boosted-trees", lambda folder: _network(folder, "boosted-trees", networks.boosted_trees, is_exact=True)
        ),
        Subject("transformer", lambda folder: _network(folder, "transformer", networks.transformer), is_quick=True),
        Subject("mobilenet-v2", lambda folder: _network(folder, "mobilenet-v2", networks.mobilenet_v2)),
        Subject("resnet-18", lambda folder: _network(folder, "resnet-18", lambda: networks.resnet(18))),
        Subject("resnet-50", lambda folder: _network(folder, "resnet-50", lambda: networks.resnet(50))),
    )


def _beside(name: str) -> str:
    path = SHARED / "models" / name
    if not path.is_file():
        raise Skipped(f"{path.name} is not beside the checkout")
    return str(path)


def _network(folder: Path, name: str, build: Callable[[], onnx.ModelProto], *, is_exact: bool = False) -> str:
    """The network as a bundle: float, and int8 by static quantisation where it has matrices to quantise."""
    target = folder / name
    if target.exists():
        return str(target)
    with tempfile.TemporaryDirectory() as scratch:
        model = build()
        float_file = Path(scratch) / "fp32.onnx"
        onnx.save(model, str(float_file))
        shape_in, shape_out = (_shape(value) for value in (model.graph.input[0], model.graph.output[0]))
        rows = np.random.default_rng(1).uniform(0, 1, (ROWS, *shape_in[1:])).astype(np.float32)
        answers = _run(float_file, rows)
        variants = [
            VariantDraft(VariantDescription(name="fp32.onnx", format=Format.ONNX, precision="fp32"), float_file)
        ]
        if not is_exact:
            int8 = VariantDescription(name="int8.onnx", format=Format.ONNX, precision="int8")
            variants.append(VariantDraft(int8, _quantise(float_file, rows[:CALIBRATION_ROWS])))
        description = ModelDescription(
            name=name,
            version=1,
            task=Task.REGRESSION if is_exact else Task.CLASSIFICATION,
            inputs=(Tensor(name="x", datatype="FP32", shape=shape_in, range=(0.0, 1.0)),),
            outputs=(Tensor(name="y", datatype="FP32", shape=shape_out),),
            targets=Targets(accuracy_floor=FLOOR),
        )
        samples = Samples({"x": rows}, {"y": answers}, None if is_exact else answers.argmax(axis=1))
        write_bundle(target, BundleDraft(description, tuple(variants), samples))
    return str(target)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


def _run(file: Path, rows: Array) -> Array:
    session = OnnxRuntimeBackend.cpu().open(file, RunOptions(1))
    answers = [session.run({"x": rows[at : at + 1]})["y"] for at in range(len(rows))]
    session.close()
    return np.concatenate(answers)


def _quantise(float_file: Path, rows: Array) -> bytes:
    """The network in int8 (QDQ, a scale for each channel), calibrated on `rows`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, Array]] = iter([{"x": rows[at : at + 1]} for at in range(len(rows))])

        def get_next(self) -> dict[str, Array] | None:
            return next(self._rows, None)

    target = float_file.with_name("int8.onnx")
    quantize_static(
        str(float_file), str(target), Reader(),
        quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return target.read_bytes()


def _resnet_8(folder: Path) -> str:
    """MLPerf Tiny's image classification in its four files, as one bundle with the CIFAR-10 rows beside us."""
    target = folder / "resnet-8"
    if target.exists():
        return str(target)
    data = SHARED / "data" / "cifar10_test_500.npz"
    files = [
        Path(_beside(f"mlperf_tiny/ic_resnet8_{name}"))
        for name in ("fp32.onnx", "int8_qdq.onnx", "fp32.tflite", "int8.tflite")
    ]
    if not data.is_file():
        raise Skipped(f"{data.name} is not beside the checkout")
    with np.load(data) as arrays:
        images, labels = arrays["images"].transpose(0, 3, 1, 2).astype(np.float32), arrays["labels"]
    images = np.ascontiguousarray(images)
    own = [
        _mapping("input_1", "Identity", is_last=False),
        _mapping("input_1", "dense"),
        _mapping("input_1", "Identity"),
    ]
    # Scales and zero points as the file's own tensors state them.
    int8 = Mapping(
        inputs={
            "image": TensorMapping(
                name="input_1_int8", transpose=(0, 2, 3, 1), datatype="INT8", scale=1.0, zero_point=-128
            )
        },
        outputs={"scores": TensorMapping(name="Identity_int8", datatype="INT8", scale=1 / 256, zero_point=-128)},
    )
    variants = tuple(
        VariantDraft(
            VariantDescription(
                name=name,
                format=Format(file.suffix[1:]),
                precision=name.partition(".")[0],
                fixed_batch=1,
                mapping=mapping,
            ),
            file,
        )
        for name, file, mapping in zip(
            ("fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"), files, (*own, int8), strict=True
        )
    )
    description = ModelDescription(
        name="resnet-8",
        version=1,
        task=Task.CLASSIFICATION,
        inputs=(Tensor(name="image", datatype="FP32", shape=(-1, 3, 32, 32), range=(0.0, 255.0)),),
        outputs=(Tensor(name="scores", datatype="FP32", shape=(-1, 10)),),
        targets=Targets(accuracy_floor=0.7),
    )
    session = OnnxRuntimeBackend.cpu().open(files[0], RunOptions(1))
    scores = np.concatenate([session.run({"input_1": images[at : at + 1]})["Identity"] for at in range(len(images))])
    session.close()
    samples = Samples({"image": images}, {"scores": scores}, labels.reshape(-1))
    write_bundle(target, BundleDraft(description, variants, samples))
    return str(target)


def _mapping(name_in: str, name_out: str, *, is_last: bool = True) -> Mapping:
    """`is_last`: the file has its channels last."""
    return Mapping(
        inputs={"image": TensorMapping(name=name_in, transpose=(0, 2, 3, 1) if is_last else None)},
        outputs={"scores": TensorMapping(name=name_out)},
    )

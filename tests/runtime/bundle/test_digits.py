"""The bundle that ships: whole, small, honest about its accuracy, and never trained on what it is measured with."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, Manifest, Task
from runtime.bundle.profile import reference_profile
from runtime.bundle.samples import Samples

MAX_BYTES = 1_500_000


@pytest.fixture(scope="module")
def manifest(digits: Bundle) -> Manifest:
    assert digits.manifest is not None
    return digits.manifest


@pytest.fixture(scope="module")
def samples(digits: Bundle) -> Samples:
    samples = digits.samples()
    assert samples is not None
    return samples


def test_it_verifies_and_is_small(digits: Bundle) -> None:
    digits.verify()
    files = [path for path in digits.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(digits.root)) for path in files} == {
        "manifest.json",
        *(p.file for p in digits.files()),
    }
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_it_says_what_it_is(digits: Bundle, manifest: Manifest) -> None:
    assert (manifest.name, manifest.task) == ("digits", Task.CLASSIFICATION)
    assert [str(t.spec) for t in (*manifest.inputs, *manifest.outputs)] == ["FP32 [batch, 1, 8, 8]", "FP32 [batch, 10]"]
    assert [v.name for v in manifest.variants] == ["fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"]
    assert digits.class_names() == [str(digit) for digit in range(10)]
    assert manifest.provenance["data_licence"] == "CC BY 4.0"


def test_every_variant_holds_the_floor_and_fp32_reaches_97_percent(manifest: Manifest) -> None:
    floor = manifest.targets.accuracy_floor
    assert floor is not None
    assert manifest.reference.accuracy is not None
    assert manifest.reference.accuracy >= 0.97
    assert manifest.reference.agreement == 1
    assert all(v.accuracy is not None and v.accuracy >= floor for v in manifest.variants)


def test_samples_are_450_rows_of_ink_and_probabilities(samples: Samples) -> None:
    images, probabilities = samples.inputs["image"], samples.outputs["probabilities"]
    assert (len(samples), images.shape, images.dtype) == (450, (450, 1, 8, 8), np.float32)
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_profile_is_that_of_the_samples(digits: Bundle, manifest: Manifest, samples: Samples) -> None:
    assert digits.profile() == reference_profile(manifest, samples)


def _onnx(digits: Bundle, name: str, images: npt.NDArray[np.float32]) -> Any:
    import onnxruntime

    variant = next(v for v in digits.variants if v.name == name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(digits.path_of(variant), options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]


def _tflite(digits: Bundle, name: str, images: npt.NDArray[np.float32]) -> Any:
    """Straight through the engine, its own scale and zero point read from the file rather than from the manifest."""
    from ai_edge_litert.interpreter import Interpreter

    variant = next(v for v in digits.variants if v.name == name)
    reader = Interpreter(str(digits.path_of(variant)), num_threads=1)
    reader.allocate_tensors()
    (own_in,), (own_out,) = reader.get_input_details(), reader.get_output_details()
    rows = []
    for image in images:
        value = image[np.newaxis]
        if own_in["dtype"] == np.int8:
            scale, zero_point = own_in["quantization"]
            value = np.clip(np.rint(value / scale) + zero_point, -128, 127).astype(np.int8)
        reader.set_tensor(own_in["index"], value)
        reader.invoke()
        result = reader.get_tensor(own_out["index"])[0].astype(np.float32)
        scale, zero_point = own_out["quantization"]
        rows.append((result - zero_point) * scale if scale else result)
    return np.array(rows)


@pytest.mark.parametrize("name", ["fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"])
def test_accuracy_and_agreement_are_what_the_manifest_says(digits: Bundle, samples: Samples, name: str) -> None:
    """Measured again with the engine itself; three rows of 450 may turn over on another processor's arithmetic."""
    variant = next(v for v in digits.variants if v.name == name)
    run = _onnx if variant.format is Format.ONNX else _tflite
    answers = run(digits, name, samples.inputs["image"])
    classes, reference = answers.argmax(axis=1), samples.outputs["probabilities"].argmax(axis=1)
    allowed = 3 / len(samples) if variant.precision == "int8" else 1 / len(samples)
    assert variant.accuracy == pytest.approx(np.mean(classes == samples.labels), abs=allowed + 1e-6)
    assert variant.agreement == pytest.approx(np.mean(classes == reference), abs=allowed + 1e-6)
    if variant.precision == "fp32":
        np.testing.assert_allclose(answers, samples.outputs["probabilities"], atol=1e-4)


def test_labels_and_images_are_those_of_scikit_learn(samples: Samples) -> None:
    data = pytest.importorskip("sklearn.datasets", reason="scikit-learn ships the images").load_digits()
    labels_of: dict[bytes, set[int]] = {}
    for image, label in zip(data.images, data.target, strict=True):
        labels_of.setdefault((image / 16).astype(np.float32).tobytes(), set()).add(int(label))
    assert samples.labels is not None
    held_out = [image.tobytes() for image in samples.inputs["image"]]
    assert len(set(held_out)) == 450
    for image, label in zip(held_out, samples.labels.tolist(), strict=True):
        assert label in labels_of[image]

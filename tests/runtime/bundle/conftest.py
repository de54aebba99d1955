"""A small bundle of two variants whose files are no models: enough for whatever does not open them."""

from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format, ModelDescription, Task, Tensor, VariantDescription
from runtime.bundle.profile import reference_profile
from runtime.bundle.samples import Samples
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle


@pytest.fixture
def draft() -> BundleDraft:
    rng = np.random.default_rng(1)
    scores = rng.random((20, 3), np.float32)
    samples = Samples(
        {"x": rng.random((20, 4), np.float32)},
        {"p": scores / scores.sum(axis=1, keepdims=True)},
        rng.integers(0, 3, 20),
    )
    model = ModelDescription(
        name="tiny",
        version=3,
        task=Task.CLASSIFICATION,
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 4), range=(0.0, 1.0)),),
        outputs=(Tensor(name="p", datatype="FP32", shape=(-1, 3)),),
    )
    variants = (
        VariantDraft(VariantDescription(name="fp32.onnx", format=Format.ONNX, precision="fp32"), b"first" * 100),
        VariantDraft(VariantDescription(name="fp32.tflite", format=Format.TFLITE, precision="fp32"), b"second" * 90),
    )
    return BundleDraft(model, variants, samples, reference_profile(model, samples), ("cat", "dog", "naïve\u2028cow"))


@pytest.fixture
def tiny(draft: BundleDraft, tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "tiny", draft)

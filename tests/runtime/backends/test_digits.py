"""The digits bundle that ships: every variant on every backend that runs here gives the accuracy its manifest claims."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.backends.base import Backend, RunOptions
from runtime.backends.opened import open_variant
from runtime.backends.registry import our_backends
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.hardware import probe

HARDWARE = probe()
BUNDLE = read_bundle(shipped_bundles()["digits"])
PAIRS = [
    pytest.param(variant.name, backend, id=f"{variant.name}-{backend.name}")
    for variant in BUNDLE.variants
    for backend in our_backends()
    if variant.format in backend.formats and backend.unavailable_reason(HARDWARE) is None
]


@pytest.mark.parametrize(("name", "backend"), PAIRS)
def test_accuracy_is_what_the_manifest_says(name: str, backend: Backend) -> None:
    (variant,) = [variant for variant in BUNDLE.variants if variant.name == name]
    samples = BUNDLE.samples()
    assert samples is not None
    assert samples.labels is not None
    opened = open_variant(BUNDLE, variant, backend, RunOptions())
    outputs = opened.predict(samples.inputs)["probabilities"]
    assert outputs.shape == (len(samples), 10)
    accuracy = float((outputs.argmax(axis=1) == samples.labels).mean())
    assert variant.accuracy is not None
    # Two images of 450: the rounding of int8 differs between engines and processors.
    assert accuracy == pytest.approx(variant.accuracy, abs=2 / 450 + 1e-6)
    one = opened.predict({key: value[:1] for key, value in samples.inputs.items()})["probabilities"]
    np.testing.assert_allclose(one, outputs[:1], atol=1 / 64)
    none = opened.predict({key: value[:0] for key, value in samples.inputs.items()})["probabilities"]
    assert none.shape == (0, 10)
    opened.close()

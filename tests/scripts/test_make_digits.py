"""The rows that the network and its quantisation see, and those that the shipped bundle is measured with, are apart."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_digits.py"

pytest.importorskip("sklearn", reason="scikit-learn ships the images")


@pytest.fixture(scope="module")
def make_digits() -> ModuleType:
    """The script as a module; it imports torch and the converters only when they work."""
    spec = importlib.util.spec_from_file_location("make_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_digits"] = module
    spec.loader.exec_module(module)
    return module


def test_the_split_is_fixed_stratified_and_disjoint(make_digits: ModuleType) -> None:
    data = make_digits.load_data()
    assert (data.train_images.shape, data.held_out_images.shape) == ((1347, 1, 8, 8), (450, 1, 8, 8))
    in_training, held_out = np.bincount(data.train_labels), np.bincount(data.held_out_labels)
    np.testing.assert_allclose(held_out, (in_training + held_out) * 450 / 1797, atol=1)
    seen = {image.tobytes() for image in data.train_images}
    assert not seen & {image.tobytes() for image in data.held_out_images}
    np.testing.assert_array_equal(data.train_images, make_digits.load_data().train_images)


def test_the_shipped_samples_are_the_held_out_rows(make_digits: ModuleType, digits: Bundle) -> None:
    data, samples = make_digits.load_data(), digits.samples()
    assert samples is not None
    np.testing.assert_array_equal(samples.inputs["image"], data.held_out_images)
    np.testing.assert_array_equal(samples.labels, data.held_out_labels)


def test_the_shipped_manifest_is_what_the_script_says(make_digits: ModuleType, digits: Bundle) -> None:
    assert digits.manifest is not None
    assert digits.manifest.model_copy(update={"provenance": {}}).model_dump(
        include=set(type(make_digits.MODEL).model_fields)
    ) == (make_digits.MODEL.model_dump())
    assert digits.manifest.provenance.items() >= make_digits.PROVENANCE.items()

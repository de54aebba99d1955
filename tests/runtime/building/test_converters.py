"""From PyTorch and TFLite, where the converters are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.building.build import BuildReport, build_bundle
from runtime.building.recipes import recipes_for
from runtime.building.request import read_request
from runtime.bundle.manifest import Format, Task
from runtime.tensors import Array

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# One int8 shows that it is made from what was made; the rest of the families is built in `test_build` and below.
SPARED = ("fp16.onnx", "int8-avx2.onnx", "int8.tflite", "dynamic-int8.tflite")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny convolutional classifier with random weights: {"image": [n, 3, 8, 8]} to {"scores": [n, 5]}."""
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Conv2d(3, 8, 3)
            self.out = torch.nn.Linear(8 * 36, 5)

        def forward(self, image: object) -> dict[str, object]:
            return {"scores": self.out(torch.relu(self.mix(image)).flatten(1))}

    torch.manual_seed(0)
    batch = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(Tiny().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=batch)
    path = tmp_path_factory.mktemp("program") / "tiny.pt2"
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    rows: Array = np.random.default_rng(0).normal(size=(120, 3, 8, 8)).astype(np.float32)
    np.savez(path, image=rows)
    return path


@pytest.fixture(scope="module")
def built(program: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    """What becomes of the program: half a minute of converters, once."""
    out = tmp_path_factory.mktemp("built") / "tiny"
    return build_bundle(program, out, rows_file, read_request(None, {"task": Task.CLASSIFICATION, "without": SPARED}))


def test_a_program_becomes_what_the_installed_converters_make_and_that_becomes_more(built: BuildReport) -> None:
    report = built
    recipes, _ = recipes_for(Format.TORCH, "fp32")
    reasons = {one.name: one.reason for one in report.variants}
    made = ["model.pt2"]
    for recipe in recipes:
        if recipe.name in SPARED:
            assert reasons[recipe.name] == "it was not asked for"
        elif (missing := recipe.missing()) is not None:
            assert reasons[recipe.name] == missing
        elif recipe.made_from not in (None, *made):
            assert recipe.made_from in (reasons[recipe.name] or ""), "it says what it would be made from"
        else:
            made.append(recipe.name)
    assert [one.name for one in report.variants if one.reason is None] == made
    for variant in report.bundle.variants:
        assert variant.fixed_batch == (1 if variant.format is Format.TFLITE else None)
        assert variant.agreement is not None
        assert variant.agreement >= 0.9
    assert report.bundle.manifest is not None
    assert [t.name for t in report.bundle.manifest.outputs] == ["scores"]


def test_a_tflite_model_is_quantised_where_the_quantizer_is_installed(
    built: BuildReport, rows_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("litert_torch", reason="litert-torch makes the .tflite; pip install 'edgeward[convert]'")
    source = built.bundle.root / "variants" / "fp32.tflite"
    report = build_bundle(source, tmp_path / "lite", rows_file, read_request(None, {"task": Task.CLASSIFICATION}))
    assert [v.name for v in report.bundle.variants] == ["fp32.tflite", "int8.tflite", "dynamic-int8.tflite"]
    int8 = report.bundle.variants[1]
    (place,) = int8.mapping.inputs.values()
    assert (place.datatype, place.scale is not None) == ("INT8", True)
    reasons = {one.name: one.reason for one in report.variants}
    assert "no maintained converter" in (reasons["*.onnx"] or "")


def test_a_pickle_in_the_program_is_refused(rows_file: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from runtime.errors import BundleError

    torch.save({"weights": torch.zeros(1)}, tmp_path / "pickle.pt2")
    with pytest.raises(BundleError, match="cannot be taken in"):
        build_bundle(tmp_path / "pickle.pt2", tmp_path / "out", rows_file, read_request(None, {}))

"""LiteRT's CompiledModel on the processor, which serves nobody: what is shared with GPU and NPU runs for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.litert import LiteRTBackend
from runtime.backends.litert_accelerated import LiteRTAcceleratedBackend
from runtime.bundle.locate import shipped_bundles
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError
from runtime.hardware import Accelerators, Gpu, probe

DIGITS = shipped_bundles()["digits"] / "variants"
ON_CPU = LiteRTAcceleratedBackend("cpu", lambda hardware: None)

pytestmark = pytest.mark.skipif(ON_CPU.version() == "not installed", reason="ai-edge-litert is not installed")


@pytest.mark.parametrize("name", ["fp32.tflite", "int8.tflite"])
def test_it_answers_as_the_interpreter_does(name: str) -> None:
    compiled, plain = ON_CPU.open(DIGITS / name, RunOptions()), LiteRTBackend().open(DIGITS / name, RunOptions())
    (spec,) = compiled.inputs
    assert (compiled.inputs, compiled.outputs) == (plain.inputs, plain.outputs)
    values = np.random.default_rng(0).uniform(0, 1, (2, *spec.shape))
    first, second = (v.astype(spec.dtype) if spec.dtype.kind == "f" else (v * 99).astype(spec.dtype) for v in values)
    kept = compiled.run({spec.name: first})
    for rows in (second, first):
        (expected,) = plain.run({spec.name: rows}).values()
        (got,) = compiled.run({spec.name: rows}).values()
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(
            got.astype(np.float64), expected.astype(np.float64), atol=1e-5 if spec.dtype.kind == "f" else 1
        )
    (answer,) = kept.values()
    np.testing.assert_array_equal(answer, next(iter(compiled.run({spec.name: first}).values())))
    compiled.close()
    plain.close()
    with pytest.raises(ExecutionError, match="closed"):
        compiled.run({spec.name: first})


def test_another_shape_is_the_callers_mistake() -> None:
    session = ON_CPU.open(DIGITS / "fp32.tflite", RunOptions())
    (spec,) = session.inputs
    for rows in (0, 2):
        with pytest.raises(InvalidInputError, match="and nothing else"):
            session.run({spec.name: np.zeros((rows, *spec.shape[1:]), np.float32)})
    session.close()


def test_what_is_no_model_is_the_bundles_fault(tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"\x1c\0\0\0nope" * 10)
    for file in (tmp_path / "no.tflite", tmp_path / "gone.tflite"):
        with pytest.raises(BundleError):
            ON_CPU.open(file, RunOptions())


def test_without_the_device_it_says_so_and_with_one_it_is_tried() -> None:
    here = probe()
    none = replace(here, accelerators=Accelerators((), ()))
    assert LiteRTAcceleratedBackend.gpu().unavailable_reason(none) == "no GPU was found"
    assert LiteRTAcceleratedBackend.npu().unavailable_reason(none) == "no NPU was found"
    mali = replace(here, accelerators=Accelerators((Gpu("ARM", "Mali", None, "panfrost", None, "a test"),), ()))
    assert LiteRTAcceleratedBackend.gpu().unavailable_reason(mali) is None


@pytest.mark.skipif(bool(probe().accelerators.gpus), reason="this machine has a GPU")
def test_a_driver_that_does_not_answer_is_a_device_that_is_not_there() -> None:
    with pytest.raises(BackendUnavailableError, match=r"cannot compile fp32\.tflite for the GPU"):
        LiteRTAcceleratedBackend.gpu().open(DIGITS / "fp32.tflite", RunOptions())

"""What every backend owes: one suite over all of ours. A backend that is not available here skips with its own sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.base import Backend, RunOptions, Session
from runtime.backends.litert_accelerated import LiteRTAcceleratedBackend
from runtime.backends.registry import our_backends
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError, WrongUseError
from runtime.hardware import probe
from runtime.tensors import TensorSpec

HARDWARE = probe()
BACKENDS = our_backends()
CASES = [
    (backend, format_)
    for backend in BACKENDS
    if backend.unavailable_reason(HARDWARE) is None
    # Takes models of one shape only; the suite's has a free batch. Its own test runs it on the device that is everywhere.
    and not isinstance(backend, LiteRTAcceleratedBackend)
    for format_ in sorted(backend.formats)
]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
every_case = pytest.mark.parametrize(
    ("backend", "format_"), CASES, ids=[f"{backend.name}-{format_}" for backend, format_ in CASES]
)
Oracle = Callable[[np.ndarray], np.ndarray]
FileOf = Callable[[Format], Path]


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def assert_near(backend: Backend, found: np.ndarray, expected: np.ndarray) -> None:
    # GPUs multiply fp32 with ten bits of mantissa (TF32), or as they are told in fp16; the sums here are of terms up to 30.
    tolerance = 1e-4 if backend.device == "cpu" else 5e-3
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * (1 if backend.device == "cpu" else 20))


@pytest.fixture
def session(backend: Backend, format_: Format, affine_file: FileOf) -> Iterator[Session]:
    session = backend.open(affine_file(format_), RunOptions(threads=2))
    yield session
    session.close()


@every_backend
def test_availability_is_none_or_one_sentence(backend: Backend) -> None:
    reason = backend.unavailable_reason(HARDWARE)
    if reason is None:
        assert backend.version() not in ("", "not installed")
    else:
        assert len(reason) > 10
        assert "\n" not in reason


@every_backend
def test_opens_here_or_refuses(backend: Backend, affine_file: FileOf) -> None:
    reason = backend.unavailable_reason(HARDWARE)
    if reason is None:
        backend.open(affine_file(min(backend.formats)), RunOptions()).close()
        return
    with pytest.raises(BackendUnavailableError):
        backend.open(affine_file(min(backend.formats)), RunOptions())
    pytest.skip(f"{backend.name} is not here, so its contract is not checked: {reason}")


def test_names_are_unique() -> None:
    names = [backend.name for backend in BACKENDS]
    assert len(set(names)) == len(names)


@every_case
def test_specs(backend: Backend, format_: Format, session: Session) -> None:
    assert session.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert session.outputs == (TensorSpec("y", "FP32", (-1, 3)),)


@every_case
@pytest.mark.parametrize("threads", [1, 2])
def test_right_answers_for_every_variation(
    backend: Backend, format_: Format, threads: int, affine_file: FileOf, affine: Oracle
) -> None:
    for extra in backend.variations(HARDWARE):
        session = backend.open(affine_file(format_), RunOptions(threads, extra))
        results = session.run({"x": rows(3)})
        session.close()
        assert list(results) == ["y"]
        assert_near(backend, results["y"], affine(rows(3)))


@every_case
def test_batch_sizes_in_any_order(backend: Backend, format_: Format, session: Session, affine: Oracle) -> None:
    for count in (1, 8, 1, 32, 5, 8):
        result = session.run({"x": rows(count, count)})["y"]
        assert result.shape == (count, 3)
        assert result.dtype == np.float32
        assert_near(backend, result, affine(rows(count, count)))


@every_case
def test_no_rows_in_no_rows_out_or_an_error(
    backend: Backend, format_: Format, session: Session, affine: Oracle
) -> None:
    try:
        result = session.run({"x": rows(0)})["y"]
    except (ExecutionError, InvalidInputError):
        result = np.empty((0, 3), np.float32)
    assert result.shape == (0, 3)
    assert result.dtype == np.float32
    assert_near(backend, session.run({"x": rows(2)})["y"], affine(rows(2)))


@every_case
def test_read_only_and_unaligned_inputs(backend: Backend, format_: Format, session: Session, affine: Oracle) -> None:
    raw = b"." + rows(3).tobytes()
    value = np.frombuffer(memoryview(raw)[1:], np.float32).reshape(3, 4)
    assert_near(backend, session.run({"x": value})["y"], affine(rows(3)))


@every_case
def test_who_says_that_nan_is_handed_on_does(backend: Backend, format_: Format, session: Session) -> None:
    with_nan = rows(2)
    with_nan[1] = np.nan
    (found,) = session.run({session.inputs[0].name: with_nan}).values()
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all() or not session.passes_nan


@every_case
def test_outputs_stay_valid(backend: Backend, format_: Format, affine_file: FileOf) -> None:
    session = backend.open(affine_file(format_), RunOptions())
    first = session.run({"x": rows(4, 1)})["y"]
    kept = first.copy()
    for seed in range(2, 30):
        session.run({"x": rows(4, seed)})
    session.run({"x": rows(64)})
    session.close()
    np.testing.assert_array_equal(first, kept)


@every_case
def test_eight_threads_at_once(backend: Backend, format_: Format, session: Session, affine: Oracle) -> None:
    def calls(seed: int) -> None:
        for i in range(25):
            value = rows(1 + (seed + i) % 4, 1000 * seed + i)
            assert_near(backend, session.run({"x": value})["y"], affine(value))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(calls, seed) for seed in range(8)]:
            done.result()


@every_case
def test_a_failing_run_breaks_nothing(backend: Backend, format_: Format, session: Session, affine: Oracle) -> None:
    with pytest.raises(ExecutionError, match=r"\[2, 5\]") as caught:
        session.run({"x": np.zeros((2, 5), np.float32)})
    assert caught.value.__cause__ is not None
    assert_near(backend, session.run({"x": rows(2)})["y"], affine(rows(2)))


@every_case
def test_a_closed_session_says_so(backend: Backend, format_: Format, affine_file: FileOf) -> None:
    session = backend.open(affine_file(format_), RunOptions())
    session.close()
    session.close()
    with pytest.raises(ExecutionError, match="closed"):
        session.run({"x": rows(1)})


@every_case
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "missing"])
def test_a_damaged_file_is_a_bundle_error(
    backend: Backend, format_: Format, damage: str, affine_file: FileOf, tmp_path: Path
) -> None:
    whole = affine_file(format_).read_bytes()
    path = tmp_path / f"damaged.{format_}"
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "garbage": bytes(range(256)) * 4, "truncated": whole[: len(whole) * 2 // 3]}[damage]
        )
    with pytest.raises(BundleError, match="damaged"):
        backend.open(path, RunOptions())


@every_case
def test_an_unknown_option_is_refused(backend: Backend, format_: Format, affine_file: FileOf) -> None:
    with pytest.raises(WrongUseError, match="spining"):
        backend.open(affine_file(format_), RunOptions(1, {"spining": "0"}))


def test_listing_backends_imports_no_engine() -> None:
    code = (
        "import sys; from runtime.backends.registry import all_backends; from runtime.hardware import probe; "
        "machine = probe(); names = [(b.name, b.version(), b.variations(machine)) for b in all_backends()]; "
        "heavy = {'onnxruntime', 'ai_edge_litert', 'tflite_runtime', 'torch', 'openvino', 'onnx'} & set(sys.modules); "
        "assert len(names) >= 10, names; assert not heavy, heavy"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

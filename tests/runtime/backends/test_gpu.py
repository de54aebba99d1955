"""What only a real NVIDIA GPU can show; elsewhere each of these skips with the backend's own reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.selection import networks
from runtime.backends.base import Backend, RunOptions
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.onnxruntime_graphs import MAX_GRAPHS
from runtime.backends.torch import TorchBackend
from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Format
from runtime.hardware import probe
from runtime.selection.candidates import enumerate_candidates
from runtime.selection.trial import IsolatedBench

Oracle = Callable[[np.ndarray], np.ndarray]
HARDWARE = probe()
CUDA, TORCH = OnnxRuntimeBackend.cuda(), TorchBackend.cuda()
GPU = (2, 0)
"""The first GPU, by DLPack's numbers."""


def needs(backend: Backend) -> None:
    reason = backend.unavailable_reason(HARDWARE)
    if reason is not None:
        pytest.skip(f"{backend.name} is not here: {reason}")


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """In ten bits of mantissa (TF32), which is how GPUs multiply fp32 by default; the sums are of terms up to 30."""
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=0.1 if np.abs(expected).max() > 1 else 5e-3)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-8: convolutions, a pool, a matrix and a soft max."""
    path = tmp_path_factory.mktemp("network") / "resnet-8.onnx"
    path.write_bytes(networks.resnet_8().SerializeToString())
    return path


def test_libraries_come_from_wheels_without_any_path(affine_file: Callable[[Format], Path]) -> None:
    needs(CUDA)
    code = (
        "import sys; from pathlib import Path; from runtime.backends.base import RunOptions; "
        "from runtime.backends.onnxruntime import OnnxRuntimeBackend as B; "
        "s = B.cuda().open(Path(sys.argv[1]), RunOptions()); print(s.native.get_providers()[0])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-c", code, str(affine_file(Format.ONNX))]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["CUDAExecutionProvider"], done.stderr


def test_tensors_stay_on_the_gpu(affine_file: Callable[[Format], Path], affine: Oracle) -> None:
    needs(CUDA)
    import onnxruntime

    session = CUDA.open(affine_file(Format.ONNX), RunOptions())
    value = onnxruntime.OrtValue.ortvalue_from_numpy(rows(3), "cuda")
    result = session.run_bound({"x": value})["y"]
    assert result.__dlpack_device__() == GPU
    assert_near(result.numpy(), affine(rows(3)))  # type: ignore[attr-defined]


def test_a_tensor_of_torch_is_read_where_it_lies(affine_file: Callable[[Format], Path], affine: Oracle) -> None:
    needs(CUDA)
    needs(TORCH)
    import torch

    session = CUDA.open(affine_file(Format.ONNX), RunOptions())
    tensor = torch.from_numpy(rows(5)).cuda()
    torch.cuda.synchronize()
    result = torch.from_dlpack(session.run_bound({"x": tensor})["y"])
    assert result.is_cuda
    assert_near(result.cpu().numpy(), affine(rows(5)))


@pytest.mark.parametrize("extra", CUDA.variations(HARDWARE), ids=str)
def test_every_variation_agrees_with_the_processor(extra: dict[str, str], network: Path) -> None:
    needs(CUDA)
    session, other = CUDA.open(network, RunOptions(2, extra)), OnnxRuntimeBackend.cpu().open(network, RunOptions(2))
    for count in (1, 8, 1, 3, 8):
        images = np.random.default_rng(count).random((count, 3, 32, 32), dtype=np.float32)
        assert_near(session.run({"x": images})["y"], other.run({"x": images})["y"])


def test_graphs_of_many_shapes_from_many_threads(affine_file: Callable[[Format], Path], affine: Oracle) -> None:
    needs(CUDA)
    session = CUDA.open(affine_file(Format.ONNX), RunOptions(1, {"graph": "1"}))

    def answer(seed: int) -> np.ndarray:
        return session.run({"x": rows(1 + seed % (MAX_GRAPHS + 3), seed)})["y"]

    with ThreadPoolExecutor(4) as pool:
        for seed, found in enumerate(pool.map(answer, range(200))):
            assert_near(found, affine(rows(1 + seed % (MAX_GRAPHS + 3), seed)))


def test_a_graph_is_recorded_while_others_compute(network: Path, affine_file: Callable[[Format], Path]) -> None:
    needs(CUDA)
    graphs, other = CUDA.open(network, RunOptions(1, {"graph": "1"})), CUDA.open(network, RunOptions(1))

    def compute(seed: int) -> bool:
        images = np.random.default_rng(seed).random((1 + seed % 40, 3, 32, 32), dtype=np.float32)
        session = graphs if seed % 2 else other  # the other one takes memory for every new shape
        return bool(np.isfinite(session.run({"x": images})["y"]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(compute, range(80)))


def test_torch_in_half_precision_agrees_and_answers_in_float(
    affine_file: Callable[[Format], Path], affine: Oracle
) -> None:
    needs(TORCH)
    session = TORCH.open(affine_file(Format.TORCH), RunOptions(1, {"fp16": "1"}))
    found = session.run({"x": rows(6)})["y"]
    assert found.dtype == np.float32
    assert_near(found, affine(rows(6)))


def test_a_trial_tells_the_memory_it_took_on_the_gpu(digits: Bundle) -> None:
    needs(CUDA)
    (candidate, *_), _ = enumerate_candidates(digits, HARDWARE, [CUDA], only_variants=["fp32.onnx"])
    bench = IsolatedBench(digits, "runtime.backends.registry:our_backends", 0, 120, None)
    try:
        trial = bench.try_out(candidate, None, 8, 10.0)
    finally:
        bench.close()
    assert trial.guard.accuracy is not None
    assert trial.guard.accuracy > 0.97
    assert trial.memory[-1].gpu_mb is not None
    assert trial.memory[-1].gpu_mb > 0

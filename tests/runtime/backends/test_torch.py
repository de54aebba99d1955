"""What is PyTorch's alone: names of arguments and outputs, bfloat16, outputs that are views, integers as arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.base import RunOptions
from runtime.backends.torch import TorchBackend, TorchSession, _load
from runtime.errors import BundleError, WrongUseError
from runtime.hardware import probe
from runtime.tensors import TensorSpec, dtype_of

torch = pytest.importorskip("torch")


def saved(path: Path, forward: Any, *arguments: Any, **keywords: Any) -> Path:
    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        pass

    Model.forward = forward
    torch.export.save(torch.export.export(Model(), arguments, keywords), path)
    return path


def opened(path: Path) -> TorchSession:
    return TorchBackend.cpu().open(path, RunOptions())


def test_outputs_without_names_are_numbered(tmp_path: Path) -> None:
    # Two tensors: given one twice, torch.export takes both arguments for the same.
    ones = (torch.ones(2), torch.ones(2))
    session = opened(saved(tmp_path / "m.pt2", lambda self, left, right: (left + right, left * right), *ones))
    assert [spec.name for spec in session.inputs] == ["left", "right"]
    assert [spec.name for spec in session.outputs] == ["output_0", "output_1"]
    results = session.run({"right": np.full(2, 3, np.float32), "left": np.full(2, 2, np.float32)})
    assert results["output_0"].tolist() == [5, 5]
    assert results["output_1"].tolist() == [6, 6]


def test_keywords_and_constants_are_put_back(tmp_path: Path) -> None:
    def forward(self: Any, x: Any, times: int, *, offset: Any) -> Any:
        return x * times + offset

    session = opened(saved(tmp_path / "m.pt2", forward, torch.ones(2), 3, offset=torch.ones(2)))
    assert [spec.name for spec in session.inputs] == ["x", "offset"]
    result = session.run({"x": np.full(2, 2, np.float32), "offset": np.full(2, 1, np.float32)})
    assert result["output_0"].tolist() == [7, 7]


def test_bf16_both_ways(tmp_path: Path) -> None:
    session = opened(saved(tmp_path / "m.pt2", lambda self, x: x * 2, torch.ones(3, dtype=torch.bfloat16)))
    assert session.inputs == (TensorSpec("x", "BF16", (3,)),)
    result = session.run({"x": np.array([1, 2, 3], dtype_of("BF16"))})["output_0"]
    assert result.dtype == dtype_of("BF16")
    assert result.astype(np.float32).tolist() == [2, 4, 6]


def test_an_output_that_is_its_input_is_a_copy(tmp_path: Path) -> None:
    session = opened(saved(tmp_path / "m.pt2", lambda self, x: x.view(4), torch.ones(2, 2)))
    value = np.zeros((2, 2), np.float32)
    result = session.run({"x": value})["output_0"]
    value[:] = 9
    assert result.tolist() == [0, 0, 0, 0]


def test_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt2", lambda self, x: (x, 5), torch.ones(2))
    with pytest.raises(BundleError, match="output_1"):
        opened(path)


def test_threads_are_set_for_the_call(tmp_path: Path) -> None:
    session = TorchBackend.cpu().open(
        saved(tmp_path / "m.pt2", lambda self, x: x + 1, torch.ones(2)), RunOptions(threads=2)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        session.run({"x": np.ones(2, np.float32)})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_half_precision_computes_in_half_and_answers_as_declared(tmp_path: Path) -> None:
    # 2049 is no number of half precision; the weight is one, and integers are left alone.
    def forward(self: Any, x: Any, count: Any) -> Any:
        return {"sum": x + self.weight, "same": x, "count": count + 1}

    path = tmp_path / "m.pt2"

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

    Model.forward = forward
    torch.export.save(torch.export.export(Model(), (torch.ones(2), torch.ones(2, dtype=torch.int64))), path)
    inputs: dict[str, Any] = {"x": np.full(2, 2049, np.float32), "count": np.full(2, 2049, np.int64)}
    half = TorchSession(torch, _load(torch, path), "cpu", RunOptions(1, {"fp16": "1"}), path).run(inputs)
    whole = opened(path).run(inputs)
    assert [half[name].dtype.name for name in ("sum", "same", "count")] == ["float32", "float32", "int64"]
    assert whole["sum"].tolist() == [2050, 2050]
    assert half["same"].tolist() == [2048, 2048]
    assert half["count"].tolist() == [2050, 2050]


def test_half_precision_is_for_gpus() -> None:
    assert TorchBackend.cuda().variations(probe()) == ({}, {"fp16": "1"})
    assert TorchBackend.cpu().variations(probe()) == ({},)
    with pytest.raises(WrongUseError, match="fp16"):
        TorchBackend.cpu().open(Path("m.pt2"), RunOptions(1, {"fp16": "1"}))

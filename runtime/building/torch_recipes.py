"""PyTorch: an exported program taken in, and made into ONNX and TFLite. Heavy imports inside functions.

The archive is checked (`runtime.backends.torch_archive`) before PyTorch reads it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from runtime.backends.torch_archive import check_archive
from runtime.errors import BundleError


def take_in(source: str, target: str) -> str:
    """Writes `source` to `target` after a check of the archive; its precision is that of its weights."""
    check_archive(Path(source))
    shutil.copyfile(source, target)
    import torch

    kinds = {tensor.dtype for tensor in torch.export.load(target).state_dict.values() if tensor.is_floating_point()}
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(next(iter(kinds)), "fp32") if len(kinds) == 1 else "fp32"


def write_onnx(source: str | Path, target: str | Path) -> None:
    """fp32 with the program's own names and free dimensions, weights inside."""
    import onnx
    import torch

    from runtime.backends.base import RunOptions
    from runtime.backends.torch import TorchBackend
    from runtime.building.onnx_recipes import strip_notes

    session = TorchBackend.cpu().open(Path(source), RunOptions())
    names: dict[str, Any] = {
        "input_names": [spec.name for spec in session.inputs],
        "output_names": [spec.name for spec in session.outputs],
    }
    session.close()
    program = torch.export.load(str(source))
    torch.onnx.export(program, (), str(target), dynamo=True, external_data=False, verbose=False, **names)
    model = onnx.load(str(target))
    strip_notes(model)
    onnx.checker.check_model(model)
    Path(target).write_bytes(model.SerializeToString(deterministic=True))


def write_tflite(source: str | Path, target: str | Path) -> None:
    """fp32, every free dimension 1: the converter takes none that are free."""
    import litert_torch
    import torch

    from runtime.backends.base import RunOptions
    from runtime.backends.torch import TorchBackend

    session = TorchBackend.cpu().open(Path(source), RunOptions())
    for spec in session.inputs:
        if any(size == -1 for size in spec.shape[1:]):
            raise BundleError(
                f"input {spec.name!r} is {spec}: LiteRT's converter takes a free batch only; fix the other dimensions"
            )
    specs = session.inputs
    session.close()
    program = torch.export.load(str(source)).module(check_guards=False)
    rows = tuple(
        torch.zeros([1 if size == -1 else size for size in spec.shape], dtype=_torch_dtype(torch, spec.datatype))
        for spec in specs
    )
    litert_torch.convert(program, rows).export(str(target))


def _torch_dtype(torch: Any, datatype: str) -> Any:
    from runtime.backends.torch import DATATYPE_OF

    return getattr(torch, next(name for name, known in DATATYPE_OF.items() if known == datatype))

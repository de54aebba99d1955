"""What ONNX Runtime's providers for NVIDIA GPUs need beyond the others: libraries from wheels, and their options."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import io
from collections.abc import Callable, Mapping
from ctypes.util import find_library
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

from runtime import config
from runtime.backends.base import RunOptions

CUDA_PROVIDER: Final = "CUDAExecutionProvider"
TENSORRT_PROVIDER: Final = "TensorrtExecutionProvider"

PACKAGE: Final = "onnxruntime-gpu"
INSTALL: Final = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
"""With CUDA's and cuDNN's libraries as wheels."""

NHWC: Final = "nhwc"
"""Convolutions with channels last, the layout of tensor cores (`prefer_nhwc`)."""
GRAPH: Final = "graph"
"""All kernels of a call launched at once (CUDA graphs, see `onnxruntime_graphs`): small models wait for launches."""
SEARCH: Final = "search"
"""How cuDNN's kernels are found when a shape is first seen: exhaustive (ONNX Runtime's default) times them all, which made
none faster on an H100, held up to 13 times the memory and took up to three times as long."""
FP16: Final = "fp16"

CUDA_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    NHWC: ("0", "1"),
    GRAPH: ("0", "1"),
    SEARCH: ("exhaustive", "heuristic"),
}
CUDA_VARIATIONS: Final[tuple[Mapping[str, str], ...]] = ({}, {GRAPH: "1"}, {NHWC: "1"}, {GRAPH: "1", NHWC: "1"})
TENSORRT_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {FP16: ("0", "1")}
TENSORRT_VARIATIONS: Final[tuple[Mapping[str, str], ...]] = ({}, {FP16: "1"})

TENSORRT_NAMES: Final = ("nvinfer", "nvinfer_10")
"""On Linux, and on Windows since TensorRT 10."""
TENSORRT_LIBRARY: Final = "libnvinfer.so.10"
ENGINES: Final = "tensorrt"
"""Below `EDGEWARD_HOME`: engines that TensorRT built, which takes it seconds to minutes each."""


def wants_graphs(provider: str, options: RunOptions) -> bool:
    """Whether a session with these options is run through `CudaGraphs`."""
    return provider == CUDA_PROVIDER and options.extra.get(GRAPH) == "1"


def is_no_graph(error: Exception) -> bool:
    """Whether a model was refused because some of it runs off the device, or its path depends on values (`if`, `loop`)."""
    return "graph capture" in str(error).lower()


def is_missing_library(error: Exception) -> bool:
    """Whether the provider itself could not be loaded, which says nothing of the model."""
    text = str(error)
    return "cannot open shared object file" in text or "Failed to load library" in text


def cuda_options(options: RunOptions, file: Path) -> dict[str, str]:
    """The CUDA provider's own options, by their names there."""
    return {
        "prefer_nhwc": options.extra.get(NHWC, "0"),
        "enable_cuda_graph": options.extra.get(GRAPH, "0"),
        "cudnn_conv_algo_search": options.extra.get(SEARCH, "heuristic").upper(),
    }


def tensorrt_options(options: RunOptions, file: Path) -> dict[str, str]:
    """The TensorRT provider's own options. What it builds is kept by the model's contents.

    It names what it keeps by the graph and not by the weights, so two models of one architecture need two folders.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    folder = config.home() / ENGINES / digest[:32]
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "trt_fp16_enable": options.extra.get(FP16, "0"),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
    }


@cache
def load_libraries(ort: ModuleType) -> str:
    """Loads CUDA and cuDNN from NVIDIA's wheels (`onnxruntime-gpu[cuda,cudnn]`) or the system; what could not be loaded.

    Without it the dynamic linker looks in its own paths only. Older versions (before 1.21) cannot, and say nothing.
    """
    load = getattr(ort, "preload_dlls", None)
    if load is None:
        return ""
    missing = _said_by(load, None)
    for folder in _wheel_folders() if missing else ():
        # It looks beside `onnxruntime` alone; in an environment above another the wheels may lie in the lower one. All of
        # them, since it says nothing of a cuDNN that is missing.
        missing = _said_by(load, str(folder))
    return missing


def why_no_tensorrt() -> str | None:
    """Why TensorRT's own libraries cannot be loaded; None when they are here. `onnxruntime-gpu` has the provider without them."""
    if find_spec("tensorrt_libs") is not None or any(map(find_library, TENSORRT_NAMES)):
        return None
    with contextlib.suppress(OSError):
        ctypes.CDLL(TENSORRT_LIBRARY)  # LD_LIBRARY_PATH counts here, and not above
        return None
    return "TensorRT is not installed: its libraries (nvinfer) are neither on the linker's path nor a wheel: pip install tensorrt"


def load_tensorrt() -> None:
    """Loads TensorRT from its wheel, where that is what there is."""
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt_libs")  # loads all that it holds


def _wheel_folders() -> list[Path]:
    """Where the wheels `nvidia-*` keep libraries: cu13/lib, cudnn/lib, ..."""
    spec = find_spec("nvidia")
    roots = [] if spec is None else spec.submodule_search_locations or []
    return [folder for root in roots for folder in sorted(Path(root).glob("*/lib"))]


def _said_by(load: Callable[..., None], folder: str | None) -> str:
    """What it prints: the libraries that it could not load."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            load(directory=folder)
        except Exception as error:
            return str(error)
    return " ".join(said.getvalue().split())

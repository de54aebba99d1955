"""PyTorch: exported programs (`.pt2`, `torch.export.save`) on the processor or an NVIDIA GPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.backends.cuda_recording import GATE
from runtime.backends.failures import one_line, show_tensors
from runtime.backends.torch_archive import check_archive
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError
from runtime.tensors import Array, TensorSpec, dtype_of

if TYPE_CHECKING:
    from runtime.hardware import Hardware

# torch.dtype names without "torch."; PyTorch has no strings.
DATATYPE_OF: Final[Mapping[str, str]] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}

FP16: Final = "fp16"


class TorchBackend:
    """`.pt2` files run op by op, uncompiled: `TorchBackend.cpu()`, `TorchBackend.cuda()`.

    To compile one takes a C++ compiler, which devices have not, and minutes, which a trial has not (DECISIONS.md, 33).

    Option `fp16` of CUDA: weights and floating inputs in half precision, outputs as the program declares them.

    The archive is checked before PyTorch sees it (`torch_archive`), because PyTorch would unpickle parts of it.
    """

    formats = frozenset({Format.TORCH})

    def __init__(self, name: str, device: str) -> None:
        self.name = name
        self.device = device

    @classmethod
    def cpu(cls) -> TorchBackend:
        """On the processor."""
        return cls("torch-cpu", "cpu")

    @classmethod
    def cuda(cls) -> TorchBackend:
        """On an NVIDIA GPU; tensors are copied to it and back on every call."""
        return cls("torch-cuda", "cuda")

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """None when PyTorch and its device are here; `torch` is imported only to ask a CUDA build for its GPU."""
        if find_spec("torch") is None:
            return "torch is not installed: pip install 'edgeward[torch]'"
        if self.device == "cpu":
            return None
        no_gpu = hardware.accelerators.why_no_nvidia
        if no_gpu is not None:
            return no_gpu
        try:
            return self._missing_cuda()
        except BackendUnavailableError as error:
            return str(error)

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """On a GPU half precision too, which its tensor cores are made for; whether it is right enough, the guard tells."""
        return ({}, {FP16: "1"}) if self.device == "cuda" else ({},)

    def version(self) -> str:
        """Of the distribution, with its build (`+cpu`, `+cu130`) where the wheel tells."""
        try:
            return version("torch")
        except PackageNotFoundError:
            return "not installed"

    def open(self, file: Path, options: RunOptions) -> TorchSession:
        """The program on this device, its weights with it."""
        check_extra(self.name, options, {FP16: ("0", "1")} if self.device == "cuda" else {})
        missing = self._missing_cuda() if self.device == "cuda" else None
        if missing is not None:
            raise BackendUnavailableError(missing)
        torch = _import()
        check_archive(file)
        try:
            program = _load(torch, file)
            with _beside_no_recording(self.device):
                session = TorchSession(torch, program, self.device, options, file)
        except BundleError:
            raise
        except Exception as error:
            if self.device == "cuda" and _is_lost_device(torch, error):
                raise BackendUnavailableError(f"{self.name} cannot use its device: {one_line(error)}") from error
            raise BundleError(
                f"{file} cannot be opened by PyTorch: {one_line(error)}; expected a file of torch.export.save"
            ) from error
        return session

    def _missing_cuda(self) -> str | None:
        """Why the installed torch has no GPU; imports it unless its version already tells."""
        without = f"the installed torch {self.version()} is the build without CUDA"
        if self.version().endswith("+cpu"):
            return without
        torch = _import()
        if torch.version.cuda is None:
            return without
        if not torch.cuda.is_available():
            return (
                f"torch {self.version()} finds no GPU it can use: "
                f"its CUDA {torch.version.cuda} needs a newer driver, or the GPU is hidden"
            )
        return None


class TorchSession:
    """An exported program as a function of tensors; calls may overlap, it keeps nothing between them.

    Inputs carry the names of the program's arguments. Outputs carry the keys of the dictionary the program returns, or
    `output_0`, `output_1`, ...: the names inside its graph change from one export to the next.

    The thread count is PyTorch's own and belongs to the whole process (to each calling thread where it was built with
    OpenMP): it is set before every call, so sessions that differ in threads and run at once may get each other's.
    """

    overlap = Overlap.SHARED
    passes_nan = True

    def __init__(self, torch: ModuleType, program: Any, device: str, options: RunOptions, file: Path) -> None:
        from torch.utils import _pytree

        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        self.inputs, self._arguments = _inputs(torch, program, file)
        self.outputs = _outputs(torch, program, file)
        names = {datatype: name for name, datatype in DATATYPE_OF.items()}
        self._dtypes = {spec.name: getattr(torch, names[spec.datatype]) for spec in self.outputs}
        self._torch = torch
        self._device = device
        self._threads = options.threads
        self._is_half = options.extra.get(FP16) == "1"
        self._flatten = _pytree.tree_leaves
        self._unflatten = _pytree.tree_unflatten
        self._in_spec = program.call_spec.in_spec
        # Guards would repeat in Python, on every call, what the engine has checked (89 against 25 µs, tiny model).
        module = program.module(check_guards=False)
        if self._is_half:
            module = module.half()
        self._forward: Any = module.forward

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in memory of their own."""
        torch = self._torch
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode(), _beside_no_recording(self._device):
                tensors = {name: self._to_tensor(value) for name, value in inputs.items()}
                flat = [tensors[given] if is_tensor else given for is_tensor, given in self._arguments]
                args, kwargs = self._unflatten(flat, self._in_spec)
                leaves = self._flatten(self._forward(*args, **kwargs))
                return {spec.name: self._to_array(leaf, spec) for spec, leaf in zip(self.outputs, leaves, strict=True)}
        except Exception as error:
            if self._device == "cuda" and _is_lost_device(torch, error):
                raise BackendUnavailableError(f"torch-cuda lost its device: {one_line(error)}") from error
            raise ExecutionError(f"PyTorch failed on {show_tensors(inputs)}: {one_line(error)}") from error

    def close(self) -> None:
        """Lets the program and its weights go."""
        self._forward = _closed
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def _to_tensor(self, value: Array) -> Any:
        if not value.flags.writeable:
            value = value.copy()  # PyTorch has no read-only tensors and warns of them
        if value.dtype.name == "bfloat16":
            tensor = self._torch.from_numpy(value.view("u2")).view(self._torch.bfloat16)
        else:
            tensor = self._torch.from_numpy(value)
        if self._device != "cpu":
            tensor = tensor.to(self._device)
        return tensor.half() if self._is_half and tensor.is_floating_point() else tensor

    def _to_array(self, tensor: Any, spec: TensorSpec) -> Array:
        tensor = tensor.detach()
        if self._is_half and tensor.is_floating_point():
            tensor = tensor.to(self._dtypes[spec.name])
        is_new = tensor.device.type != "cpu"
        tensor = tensor.cpu().contiguous()
        if spec.datatype == "BF16":
            tensor = tensor.view(self._torch.uint16)
        result: Array = tensor.numpy()
        if not is_new:
            # An output may be a view of an input or of a weight; what is handed out is the caller's alone.
            result = result.copy()
        return result.view(dtype_of("BF16")) if spec.datatype == "BF16" else result


def _beside_no_recording(device: str) -> AbstractContextManager[None]:
    return GATE if device == "cuda" else nullcontext()


def _closed(*_: object, **__: object) -> Any:
    raise RuntimeError("the session is closed")


def _import() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailableError(f"torch cannot be imported: {error}; pip install 'edgeward[torch]'") from error
    module: ModuleType = torch
    return module


def _load(torch: ModuleType, file: Path) -> Any:
    # PyTorch logs whole tracebacks of what it then raises anyway.
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        return torch.export.load(str(file))
    finally:
        log.disabled = before


def _inputs(torch: ModuleType, program: Any, file: Path) -> tuple[tuple[TensorSpec, ...], list[tuple[bool, Any]]]:
    """The specs of the tensor arguments; and every argument as (True, its name) or (False, the constant exported)."""
    nodes = {node.name: node for node in program.graph.nodes}
    specs: list[TensorSpec] = []
    arguments: list[tuple[bool, Any]] = []
    for entry in program.graph_signature.input_specs:
        if entry.kind is not torch.export.graph_signature.InputKind.USER_INPUT:
            continue
        if isinstance(entry.arg, torch.export.graph_signature.ConstantArgument):
            arguments.append((False, entry.arg.value))
            continue
        specs.append(_spec(torch, nodes[entry.arg.name], entry.arg.name, "input", file))
        arguments.append((True, entry.arg.name))
    return tuple(specs), arguments


def _outputs(torch: ModuleType, program: Any, file: Path) -> tuple[TensorSpec, ...]:
    nodes = {node.name: node for node in program.graph.nodes}
    graph_names = program.graph_signature.user_outputs
    tree = program.call_spec.out_spec
    is_dict = (
        tree.type is dict
        and len(tree.context) == len(graph_names)
        and all(isinstance(key, str) for key in tree.context)
    )
    names = list(tree.context) if is_dict else [f"output_{i}" for i in range(len(graph_names))]
    return tuple(
        _spec(torch, nodes.get(own), name, "output", file) for name, own in zip(names, graph_names, strict=True)
    )


def _spec(torch: ModuleType, node: Any, name: str, what: str, file: Path) -> TensorSpec:
    value = None if node is None else node.meta.get("val")
    datatype = DATATYPE_OF.get(str(value.dtype).removeprefix("torch.")) if isinstance(value, torch.Tensor) else None
    if value is None or datatype is None:
        seen = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise BundleError(
            f"{what} {name!r} of {file} is {seen}; "
            f"a served program takes and returns tensors of {', '.join(DATATYPE_OF)}"
        )
    return TensorSpec(name, datatype, tuple(n if isinstance(n, int) else -1 for n in value.shape))


def _is_lost_device(torch: ModuleType, error: Exception) -> bool:
    """Whether the GPU is gone for this process; running out of its memory is not that."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(error)

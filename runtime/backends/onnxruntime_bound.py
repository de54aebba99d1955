"""Tensors that stay on the device between calls of an ONNX Runtime session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any, Protocol

from runtime.backends.cuda_recording import GATE


class DeviceTensor(Protocol):
    """Memory that tells where it lies (DLPack): a tensor of PyTorch or CuPy, an array of numpy, an `OrtValue`.

    https://dmlc.github.io/dlpack/latest/python_spec.html
    """

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """The memory, shared."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """(kind, number) of the device."""


class BoundRunner:
    """Calls whose inputs are used where they lie and whose outputs stay on `device`; calls may overlap."""

    def __init__(self, ort: ModuleType, session: Any, device: str) -> None:
        self._value = ort.OrtValue
        self._session = session
        self._device = device

    def run(self, names: Sequence[str], inputs: Mapping[str, DeviceTensor]) -> dict[str, DeviceTensor]:
        """The outputs as `OrtValue`s, complete when this returns; their memory is theirs until they are dropped.

        What fills the inputs must have ended before: ONNX Runtime computes on a stream of its own.
        """
        with GATE if self._device == "cuda" else nullcontext():
            return self._run(names, inputs)

    def _run(self, names: Sequence[str], inputs: Mapping[str, DeviceTensor]) -> dict[str, DeviceTensor]:
        binding = self._session.io_binding()
        for name, value in inputs.items():
            is_own = isinstance(value, self._value)
            binding.bind_ortvalue_input(name, value if is_own else self._value.from_dlpack(value))
        for name in names:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        return dict(zip(names, binding.get_outputs(), strict=True))

"""LiteRT on a GPU or an NPU, through its CompiledModel: all of a model runs there, or none of it.

Models have one fixed shape there. The processor is `litert`'s: what an accelerator does not have operators for is left to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtime.backends.base import Overlap, RunOptions, check_extra
from runtime.backends.failures import one_line, show_tensors
from runtime.bundle.manifest import Format
from runtime.errors import BackendUnavailableError, BundleError, ExecutionError, InvalidInputError
from runtime.tensors import Array, TensorSpec, datatype_of

if TYPE_CHECKING:
    from runtime.hardware import Hardware

PACKAGE: Final = "ai_edge_litert"
IDENTIFIER: Final = b"TFL3"
"""Bytes 4 to 8 of every TFLite file (its flatbuffers schema, "file_identifier")."""


class LiteRTAcceleratedBackend:
    """`.tflite` files on one kind of accelerator: `LiteRTAcceleratedBackend.gpu()`, `.npu()`."""

    formats = frozenset({Format.TFLITE})

    def __init__(self, device: str, missing_device: Callable[[Hardware], str | None]) -> None:
        self.name = f"litert-{device}"
        self.device = device
        self._missing_device = missing_device

    @classmethod
    def gpu(cls) -> LiteRTAcceleratedBackend:
        """On a GPU, by WebGPU, OpenCL or Metal, whichever the wheel has a library for."""
        return cls("gpu", _no_gpu)

    @classmethod
    def npu(cls) -> LiteRTAcceleratedBackend:
        """On an NPU, where its maker's dispatch library is installed beside LiteRT."""
        return cls("npu", _no_npu)

    def unavailable_reason(self, hardware: Hardware) -> str | None:
        """None when device and package are here. Whether the driver is there as well shows when a model is opened."""
        if find_spec(PACKAGE) is None:
            return "ai-edge-litert is not installed: pip install ai-edge-litert"
        return self._missing_device(hardware)

    def variations(self, hardware: Hardware) -> tuple[Mapping[str, str], ...]:
        """Only one way."""
        return ({},)

    def version(self) -> str:
        """Of the distribution."""
        try:
            return version("ai-edge-litert")
        except PackageNotFoundError:
            return "not installed"

    def open(self, file: Path, options: RunOptions) -> LiteRTAcceleratedSession:
        """The model compiled for the device; `BackendUnavailableError` where it cannot take the whole of it."""
        check_extra(self.name, options, {})
        with _opened(file) as stream:
            is_tflite = stream.read(8)[4:] == IDENTIFIER
        if not is_tflite:
            raise BundleError(f"{file} cannot be opened by LiteRT: expected a TensorFlow Lite model")
        try:
            from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
        except ImportError as error:
            raise BackendUnavailableError(
                f"{self.name} needs CompiledModel, which ai-edge-litert has since 2.0: {error}"
            ) from error
        try:
            model = CompiledModel.from_file(str(file), hardware_accel=HardwareAccelerator[self.device.upper()])
        except Exception as error:
            raise BackendUnavailableError(
                f"LiteRT cannot compile {file.name} for the {self.device.upper()}: {one_line(error)}; "
                "its driver does not answer, or has not every operator of the model"
            ) from error
        return LiteRTAcceleratedSession(model, self.name, file)


class LiteRTAcceleratedSession:
    """A compiled model and its buffers behind a lock: they are written, run and read as one."""

    overlap = Overlap.OWN
    passes_nan = False

    def __init__(self, model: Any, backend: str, file: Path) -> None:
        signatures = model.get_signature_list()
        if len(signatures) != 1:
            raise BundleError(f"{file} has {len(signatures)} signatures; a model of one signature is served")
        (key,) = signatures
        self.inputs = _specs(signatures[key]["inputs"], model.get_input_tensor_details(key), file)
        self.outputs = _specs(signatures[key]["outputs"], model.get_output_tensor_details(key), file)
        self._backend = backend
        self._model = model
        self._buffers_in = model.create_input_buffers(0)
        self._buffers_out = model.create_output_buffers(0)
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in memory of their own."""
        for spec in self.inputs:
            if inputs[spec.name].shape != spec.shape:
                raise InvalidInputError(
                    f"{show_tensors(inputs)}; {self._backend} takes {spec.name!r} as {list(spec.shape)} and nothing else"
                )
        with self._lock:
            model = self._model
            if model is None:
                raise ExecutionError("the session is closed")
            try:
                for spec, buffer in zip(self.inputs, self._buffers_in, strict=True):
                    buffer.write(np.ascontiguousarray(inputs[spec.name]))
                model.run_by_index(0, self._buffers_in, self._buffers_out)
                return {
                    spec.name: np.array(buffer.read(int(np.prod(spec.shape)), spec.dtype.type)).reshape(spec.shape)
                    for spec, buffer in zip(self.outputs, self._buffers_out, strict=True)
                }
            except Exception as error:
                raise ExecutionError(f"LiteRT failed on {show_tensors(inputs)}: {one_line(error)}") from error

    def close(self) -> None:
        """Waits for a call that still runs, then gives buffers and model back."""
        with self._lock:
            self._buffers_in = self._buffers_out = []
            if self._model is not None:
                self._model.close()
                self._model = None


def _no_gpu(hardware: Hardware) -> str | None:
    accelerators = hardware.accelerators
    if accelerators.gpus:
        return None
    return "; ".join(each.reason for each in accelerators.missing if "GPU" in each.fact) or "no GPU was found"


def _no_npu(hardware: Hardware) -> str | None:
    accelerators = hardware.accelerators
    if accelerators.npus:
        return None
    return "; ".join(each.reason for each in accelerators.missing if each.fact == "NPU") or "no NPU was found"


def _opened(file: Path) -> Any:
    try:
        return file.open("rb")
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error


def _specs(names: list[str], details: Mapping[str, Mapping[str, Any]], file: Path) -> tuple[TensorSpec, ...]:
    specs = []
    for name in names:
        shape = tuple(int(n) for n in details[name]["shape"])
        try:
            datatype = datatype_of(np.dtype(details[name]["dtype"]))
        except (TypeError, InvalidInputError) as error:
            raise BundleError(f"tensor {name!r} of {file} is {details[name]['dtype']}: {error}") from error
        specs.append(TensorSpec(name, datatype, shape))
    return tuple(specs)

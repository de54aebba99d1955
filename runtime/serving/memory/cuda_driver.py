"""What is asked of NVIDIA's driver, through its own Python binding (`cuda-bindings`, the extra `cuda`).

Memory of another process is opened by its handle, copied from and to, and closed. Nothing here knows of regions or requests.

The driver's API, not the runtime's: each call has its device's context pushed and popped again, so an engine that runs on the same
thread finds the device that it had chosen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import UnsupportedError

HANDLE_BYTES = 64
"""Of a CUipcMemHandle, which is the runtime's cudaIpcMemHandle_t (CU_IPC_HANDLE_SIZE)."""


class CudaError(Exception):
    """The driver refused; the text is its own."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of another process, mapped into this one."""

    device: int
    address: int
    size_bytes: int
    """From `address` to the end of the allocation, as the driver says, whatever the client said."""


def open_driver() -> CudaDriver:
    """The driver, started; `UnsupportedError` says which is missing: the binding, the driver or a GPU.

    Takes as long as the driver takes to wake a GPU.
    """
    try:
        from cuda.bindings import driver as api
    except ModuleNotFoundError:
        raise UnsupportedError("cuda-bindings is not installed (pip install 'edgeward[cuda]')") from None
    except ImportError as error:
        raise UnsupportedError(f"cuda-bindings cannot be loaded ({error})") from error
    return start(api)


def start(api: Any) -> CudaDriver:
    """The driver behind `api`, which is `cuda.bindings.driver`."""
    try:
        (status,) = api.cuInit(0)
    except RuntimeError as error:  # the binding finds no libcuda
        raise UnsupportedError(f"NVIDIA's driver is not installed ({error})") from error
    if status == api.CUresult.CUDA_ERROR_NO_DEVICE:
        raise UnsupportedError(f"this process sees no NVIDIA GPU ({_words(api, status)})")
    if status != api.CUresult.CUDA_SUCCESS:
        raise UnsupportedError(f"NVIDIA's driver does not start ({_words(api, status)})")
    status, count = api.cuDeviceGetCount()
    if status != api.CUresult.CUDA_SUCCESS or not count:
        raise UnsupportedError("NVIDIA's driver is installed, but this process sees no NVIDIA GPU")
    return CudaDriver(api, count)


@dataclass(frozen=True, slots=True)
class _Device:
    context: Any
    stream: Any
    """One that waits for no other, so a copy never waits for an engine's kernels."""


class CudaDriver:
    """A driver that has started. May be called from any thread; everything but `device_count` raises `CudaError`."""

    def __init__(self, api: Any, device_count: int) -> None:
        self.device_count = device_count
        """How many GPUs this process sees, 1 or more; they are numbered from 0."""
        self._api = api
        self._devices: dict[int, _Device] = {}

    def open(self, handle: bytes, device: int) -> DeviceMemory:
        """Maps the memory behind a handle of `HANDLE_BYTES`; close it as often as it was opened."""
        api = self._api
        given = api.CUipcMemHandle()
        ctypes.memmove(given.getPtr(), handle, HANDLE_BYTES)
        with self._on(device):
            peers = int(api.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)  # the one value that is defined
            address = self._do(api.cuIpcOpenMemHandle, given, peers)
            try:
                base, size_bytes = self._do(api.cuMemGetAddressRange, address)
            except CudaError:
                self._do(api.cuIpcCloseMemHandle, address)
                raise
        return DeviceMemory(device, int(address), int(base) + size_bytes - int(address))

    def read(self, memory: DeviceMemory, offset: int, size_bytes: int) -> memoryview:
        """A copy in the machine's memory; the caller has checked that the part lies inside."""
        copy = np.empty(size_bytes, np.uint8)
        if size_bytes:
            with self._on(memory.device) as stream:
                source = self._api.CUdeviceptr(memory.address + offset)
                self._do(self._api.cuMemcpyDtoHAsync, copy.ctypes.data, source, size_bytes, stream)
                self._do(self._api.cuStreamSynchronize, stream)
        return copy.data.toreadonly()

    def write(self, memory: DeviceMemory, offset: int, raw: bytes | memoryview) -> None:
        """Returns when `raw` is on the device; the caller has checked that it fits."""
        if len(raw):
            source = np.frombuffer(raw, np.uint8)
            with self._on(memory.device) as stream:
                target = self._api.CUdeviceptr(memory.address + offset)
                self._do(self._api.cuMemcpyHtoDAsync, target, source.ctypes.data, source.nbytes, stream)
                self._do(self._api.cuStreamSynchronize, stream)

    def close(self, memory: DeviceMemory) -> None:
        """Ends the mapping."""
        with self._on(memory.device):
            self._do(self._api.cuIpcCloseMemHandle, self._api.CUdeviceptr(memory.address))

    @contextmanager
    def _on(self, device: int) -> Iterator[Any]:
        """The device's stream, its context current on this thread meanwhile."""
        known = self._devices.get(device) or self._begin(device)
        self._do(self._api.cuCtxPushCurrent, known.context)
        try:
            yield known.stream
        finally:
            self._do(self._api.cuCtxPopCurrent)

    def _begin(self, device: int) -> _Device:
        api = self._api
        # The one context that engines of this process use too, kept until the process ends.
        context = self._do(api.cuDevicePrimaryCtxRetain, self._do(api.cuDeviceGet, device))
        self._do(api.cuCtxPushCurrent, context)
        try:
            stream = self._do(api.cuStreamCreate, int(api.CUstream_flags.CU_STREAM_NON_BLOCKING))
        finally:
            self._do(api.cuCtxPopCurrent)
        return self._devices.setdefault(device, _Device(context, stream))

    def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        status, *values = call(*arguments)
        if status != self._api.CUresult.CUDA_SUCCESS:
            raise CudaError(_words(self._api, status))
        return values[0] if len(values) == 1 else values


def _words(api: Any, status: Any) -> str:
    told, text = api.cuGetErrorString(status)
    name = getattr(status, "name", str(status))
    return f"{name}: {text.decode()}" if told == api.CUresult.CUDA_SUCCESS and text else name

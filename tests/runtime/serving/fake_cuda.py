"""A stand-in for `cuda.bindings.driver`, whose devices are memory of this machine: the calls that are made of it, no more.

It knows what the driver insists on: a context that is current on the thread, handles that somebody exported, copies inside an
allocation, a mapping closed as often as it was opened.
"""

import ctypes
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.serving.memory import cuda_driver


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_UNKNOWN = 999


WORDS = {Result.CUDA_ERROR_INVALID_VALUE: b"invalid argument", Result.CUDA_ERROR_NO_DEVICE: b"no CUDA-capable device"}


class Handle:
    def __init__(self) -> None:
        self.raw = ctypes.create_string_buffer(64)

    def getPtr(self) -> int:  # noqa: N802  (the binding's name)
        return ctypes.addressof(self.raw)


class Allocation:
    """Memory that another process made on a device."""

    def __init__(self, size_bytes: int) -> None:
        self.handle = uuid.uuid4().bytes * 4
        self.buffer = ctypes.create_string_buffer(size_bytes)
        self.mappings = 0

    @property
    def address(self) -> int:
        return ctypes.addressof(self.buffer)

    @property
    def content(self) -> bytes:
        return self.buffer.raw

    def put(self, raw: bytes) -> None:
        ctypes.memmove(self.address, raw, len(raw))


class FakeCuda:
    CUresult = Result
    CUipcMemHandle = Handle
    CUdeviceptr = int
    CUipcMem_flags = SimpleNamespace(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS=1)
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)

    def __init__(self, devices: int = 1, starts: Result | RuntimeError = Result.CUDA_SUCCESS) -> None:
        self.devices = devices
        self.starts = starts
        self.allocations: list[Allocation] = []
        self.fails: dict[str, Result] = {}
        """Call → what it is answered with."""
        self.on_open = threading.Event()
        self.on_open.set()
        """Cleared: opening waits, as it does while a context is made."""
        self._current = threading.local()

    def export(self, size_bytes: int) -> Allocation:
        self.allocations.append(Allocation(size_bytes))
        return self.allocations[-1]

    @property
    def mappings(self) -> int:
        return sum(each.mappings for each in self.allocations)

    @property
    def contexts(self) -> list[Any]:
        """Current on this thread, the innermost last."""
        if not hasattr(self._current, "stack"):
            self._current.stack = []
        return self._current.stack

    def _answer(self, call: str, *values: Any, needs_context: bool = True) -> tuple[Any, ...]:
        status = self.fails.get(call, Result.CUDA_SUCCESS)
        if status is Result.CUDA_SUCCESS and needs_context and not self.contexts:
            status = Result.CUDA_ERROR_INVALID_CONTEXT
        return (status, *(values if status is Result.CUDA_SUCCESS else [None for _ in values]))

    def cuInit(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        if isinstance(self.starts, RuntimeError):
            raise self.starts
        return (self.starts,)

    def cuGetErrorString(self, status: Result) -> tuple[Any, ...]:  # noqa: N802
        known = WORDS.get(status)
        return (Result.CUDA_SUCCESS, known) if known else (Result.CUDA_ERROR_INVALID_VALUE, None)

    def cuDeviceGetCount(self) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cuDeviceGetCount", self.devices, needs_context=False)

    def cuDeviceGet(self, ordinal: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cuDeviceGet", ordinal, needs_context=False)

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cuDevicePrimaryCtxRetain", f"context {device}", needs_context=False)

    def cuCtxPushCurrent(self, context: Any) -> tuple[Any, ...]:  # noqa: N802
        self.contexts.append(context)
        return self._answer("cuCtxPushCurrent")

    def cuCtxPopCurrent(self) -> tuple[Any, ...]:  # noqa: N802
        return (Result.CUDA_SUCCESS, self.contexts.pop())

    def cuStreamCreate(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cuStreamCreate", object())

    def cuStreamSynchronize(self, stream: object) -> tuple[Any, ...]:  # noqa: N802
        return self._answer("cuStreamSynchronize")

    def cuIpcOpenMemHandle(self, handle: Handle, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert self.on_open.wait(20)
        for each in self.allocations:
            if each.handle == handle.raw.raw:
                each.mappings += 1
                return self._answer("cuIpcOpenMemHandle", each.address)
        return (Result.CUDA_ERROR_INVALID_VALUE, None)

    def cuMemGetAddressRange(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        found = self._mapped(address)
        if found is None:
            return (Result.CUDA_ERROR_INVALID_VALUE, None, None)
        return self._answer("cuMemGetAddressRange", found.address, len(found.buffer))

    def cuIpcCloseMemHandle(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        found = self._mapped(address)
        if found is None or found.address != address:
            return (Result.CUDA_ERROR_INVALID_VALUE,)
        found.mappings -= 1
        return self._answer("cuIpcCloseMemHandle")

    def cuMemcpyDtoHAsync(self, target: int, source: int, size_bytes: int, stream: object) -> tuple[Any, ...]:  # noqa: N802
        return self._copy("cuMemcpyDtoHAsync", target, source, size_bytes, source)

    def cuMemcpyHtoDAsync(self, target: int, source: int, size_bytes: int, stream: object) -> tuple[Any, ...]:  # noqa: N802
        return self._copy("cuMemcpyHtoDAsync", target, source, size_bytes, target)

    def _copy(self, call: str, target: int, source: int, size_bytes: int, on_device: int) -> tuple[Any, ...]:
        found = self._mapped(on_device)
        if found is None or on_device + size_bytes > found.address + len(found.buffer):
            return (Result.CUDA_ERROR_INVALID_VALUE,)
        answer = self._answer(call)
        if answer == (Result.CUDA_SUCCESS,):
            ctypes.memmove(target, source, size_bytes)
        return answer

    def _mapped(self, address: int) -> Allocation | None:
        for each in self.allocations:
            if each.mappings and each.address <= address < each.address + len(each.buffer):
                return each
        return None


@contextmanager
def fake_cuda(cuda: FakeCuda | None = None) -> Iterator[FakeCuda]:
    """Servers that look for a driver meanwhile find this one."""
    made = FakeCuda() if cuda is None else cuda
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_driver, "open_driver", lambda: cuda_driver.start(made))
        yield made

"""CUDA shared memory: device memory that another process made and shares by its handle (`cudaIpcGetMemHandle`).

Engines take arrays of the machine's memory, so a tensor is copied from the device when its request is read, and to the device
when its reply is written. A copy is made on the event loop, like the `pread` of system memory: it is no longer than
`max_message_bytes`, and queues behind no engine's work. What may take long, making a context and closing a mapping, has a thread.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from runtime.errors import InvalidInputError, UnsupportedError
from runtime.serving.memory import cuda_driver
from runtime.serving.memory.cuda_driver import HANDLE_BYTES, CudaDriver, CudaError, DeviceMemory

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CudaRegion:
    """The first `size_bytes` of an allocation on `device`, counted as the driver counts GPUs for this process."""

    kind: ClassVar[str] = "CUDA"

    name: str
    device: int
    size_bytes: int


class CudaMemory:
    """A region and its mapping, which is closed when the last one who uses it is gone."""

    __slots__ = ("__weakref__", "_driver", "_memory", "region")

    def __init__(
        self, region: CudaRegion, driver: CudaDriver, memory: DeviceMemory, close: Callable[[DeviceMemory], None]
    ) -> None:
        self.region = region
        self._driver = driver
        self._memory = memory
        weakref.finalize(self, close, memory).atexit = False  # a process that ends gives back everything it had opened

    def read(self, offset: int, size_bytes: int) -> memoryview:
        """See `regions.Opened`."""
        try:
            return self._driver.read(self._memory, offset, size_bytes)
        except CudaError as error:
            raise InvalidInputError(f"region {self.region.name!r} cannot be read: {error}") from error

    def write(self, offset: int, raw: bytes | memoryview) -> None:
        """See `regions.Opened`."""
        try:
            self._driver.write(self._memory, offset, raw)
        except CudaError as error:
            raise InvalidInputError(f"region {self.region.name!r} cannot be written: {error}") from error


class CudaDevices:
    """The GPUs of this machine, as far as memory is shared on them. The driver is looked for when it is first needed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgeward-cuda")
        self._driver: CudaDriver | None = None
        self._off_because: str | None = None

    async def require(self) -> None:
        """`UnsupportedError` with the reason where there is no CUDA."""
        if self._driver is None:
            await self._on_thread(self._find)

    async def open(self, region: CudaRegion, handle: bytes) -> CudaMemory:
        """The region behind a handle; `InvalidInputError` where there is none, or it ends before the region does."""
        if len(handle) != HANDLE_BYTES:
            raise InvalidInputError(
                f"the raw handle of region {region.name!r} has {len(handle)} bytes; expected the {HANDLE_BYTES} of a "
                "cudaIpcMemHandle_t"
            )
        return await self._on_thread(lambda: self._open(region, handle))

    async def settled(self) -> None:
        """Returns when every mapping that nobody uses any more is closed."""
        if self._driver is not None:
            await self._on_thread(_nothing)  # by now the thread has let go of what it opened last
            await self._on_thread(_nothing)  # and by now it has closed that too

    def close(self) -> None:
        """Ends the thread once it has closed what nobody uses any more."""
        self._thread.shutdown(wait=False)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _find(self) -> CudaDriver:
        if self._driver is None and self._off_because is None:
            try:
                self._driver = cuda_driver.open_driver()
            except UnsupportedError as error:
                self._off_because = str(error)
        if self._driver is None:
            raise UnsupportedError(
                f"CUDA shared memory is off: {self._off_because}; use system shared memory, or send the tensors themselves"
            )
        return self._driver

    def _open(self, region: CudaRegion, handle: bytes) -> CudaMemory:
        driver = self._find()
        count = driver.device_count
        if not 0 <= region.device < count:
            raise InvalidInputError(
                f"region {region.name!r} is on device {region.device}; this server sees {count}, numbered from 0"
            )
        try:
            memory = driver.open(handle, region.device)
        except CudaError as error:
            raise InvalidInputError(
                f"the handle of region {region.name!r} cannot be opened on device {region.device}: {error}; it must come "
                "from cudaIpcGetMemHandle in another process than this server's, and its memory must not be freed yet"
            ) from error
        if region.size_bytes > memory.size_bytes:
            self._close(driver, memory)
            raise InvalidInputError(
                f"region {region.name!r} has {region.size_bytes} bytes, but the driver says that its allocation has "
                f"{memory.size_bytes}"
            )
        return CudaMemory(region, driver, memory, lambda unused: self._close_later(driver, unused))

    def _close_later(self, driver: CudaDriver, memory: DeviceMemory) -> None:
        with suppress(RuntimeError):  # the server has ended; the mapping ends with the process
            self._thread.submit(self._close, driver, memory)

    @staticmethod
    def _close(driver: CudaDriver, memory: DeviceMemory) -> None:
        try:
            driver.close(memory)
        except CudaError as error:
            log.warning("device memory of another process stays mapped on device %d: %s", memory.device, error)


def _nothing() -> None:
    """For whoever waits until the thread has come to it."""

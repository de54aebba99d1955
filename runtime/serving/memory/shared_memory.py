"""The shared memory of one server: regions that clients of this machine register, and tensors read from them and written to them.

`regions` keeps the books, `system_memory` and `cuda_memory` know what each kind of region is.
"""

from __future__ import annotations

import os

from runtime.errors import InvalidInputError, UnsupportedError
from runtime.serving.memory.cuda_memory import CudaDevices, CudaRegion
from runtime.serving.memory.regions import Regions
from runtime.serving.memory.system_memory import FOLDER, SystemRegion, open_system
from runtime.tensors import to_raw
from runtime.wire.values import InferenceRequest, InferenceResponse, Placed, Slot


class SharedMemory:
    """The regions of one server. `off_because` says why there are none; every method then raises `UnsupportedError`.

    Used on one event loop. What may take long on a device, opening and closing, is awaited; copies are made at once.
    """

    def __init__(self, max_tensor_bytes: int, off_because: str | None = None) -> None:
        self.off_because = off_because
        self._regions = Regions(max_tensor_bytes)
        self._devices = CudaDevices()

    def register_system(self, name: str, key: str, offset: int, size_bytes: int) -> None:
        """Opens the object called `key` and keeps `size_bytes` of it from `offset` on as region `name`."""
        self._require_on()
        with self._regions.claimed(name, size_bytes):
            self._regions.add(open_system(SystemRegion(name, key, offset, size_bytes)))

    def unregister_system(self, name: str = "") -> None:
        """Forgets the region, or all of them without a name; requests under way keep theirs. An unknown name is fine."""
        self._require_on()
        self._regions.remove(SystemRegion, name)

    def system_status(self, name: str = "") -> list[SystemRegion]:
        """The region, or all of them without a name; `InvalidInputError` for an unknown one."""
        self._require_on()
        return self._regions.listed(SystemRegion, name)

    async def register_cuda(self, name: str, handle: bytes, device: int, size_bytes: int) -> None:
        """Opens the device memory of another process, shared by its CUDA IPC handle, and keeps it as region `name`.

        `UnsupportedError` where CUDA is not.
        """
        await self.require_cuda()
        with self._regions.claimed(name, size_bytes):
            self._regions.add(await self._devices.open(CudaRegion(name, device, size_bytes), handle))

    async def unregister_cuda(self, name: str = "") -> None:
        """As `unregister_system`. When it returns, the memory of regions that no request uses may be freed."""
        self._require_on()
        self._regions.remove(CudaRegion, name)
        await self._devices.settled()

    def cuda_status(self, name: str = "") -> list[CudaRegion]:
        """As `system_status`."""
        self._require_on()
        return self._regions.listed(CudaRegion, name)

    async def require_cuda(self) -> None:
        """`UnsupportedError` with the reason where no region on a device can be registered."""
        self._require_on()
        await self._devices.require()

    def slot(self, region: str, offset: int, size_bytes: int) -> Slot:
        """A part of a registered region; it stays readable when the region is unregistered meanwhile."""
        self._require_on()
        return self._regions.part(region, offset, size_bytes)

    def close(self) -> None:
        """Gives all regions back."""
        self._regions.remove(SystemRegion)
        self._regions.remove(CudaRegion)
        self._devices.close()

    def _require_on(self) -> None:
        if self.off_because is not None:
            raise UnsupportedError(f"shared memory is off: {self.off_because}; send the tensors themselves")


def why_off(is_wanted: bool, is_loopback: bool, host: str) -> str | None:
    """Why a server has no shared memory; None when it has."""
    if not is_wanted:
        return "this server was started with --no-shared-memory"
    if not is_loopback:
        return f"only clients of this machine share memory with it, and this server listens on {host}"
    if not FOLDER.is_dir() or not hasattr(os, "pread"):
        return f"this machine has no {FOLDER}, where POSIX shared memory is kept on Linux"
    return None


def write_outputs(request: InferenceRequest, response: InferenceResponse) -> dict[str, Placed]:
    """Writes the outputs that were asked for in shared memory there, and says how much of each slot they fill."""
    placed: dict[str, Placed] = {}
    for output in request.outputs:
        slot = output.slot
        if slot is None or output.name not in response.outputs:
            continue
        raw = to_raw(response.outputs[output.name])
        if len(raw) > slot.size_bytes:
            raise InvalidInputError(
                f"output {output.name!r} takes {len(raw)} bytes; {slot.size_bytes} were given for it in region {slot.region!r}"
            )
        slot.write(raw)
        placed[output.name] = Placed(slot.region, slot.offset, len(raw))
    return placed

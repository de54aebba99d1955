"""The process and its machine as metrics: CPU, memory, and GPUs where NVML answers.

Process metrics have the names that every Prometheus client library gives them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from runtime.telemetry.exposition import Family, Kind, Sample

if TYPE_CHECKING:
    import psutil

log = logging.getLogger(__name__)

# Scrapes and the page share a reading; a driver asked more often than once a second costs power.
MAX_AGE_S: Final = 1.0


class Machine:
    """Reads on a thread, for a sleeping GPU takes its time to answer. `families` is a `Collector`."""

    def __init__(self, nvml: Any = None) -> None:
        self._cpu_before = time.process_time(), time.monotonic()
        self._read_at = -MAX_AGE_S
        self._told: list[Family] = []
        self._reading = asyncio.Lock()
        self._nvml = nvml
        self._handles: list[Any] | None = None

    async def families(self) -> Sequence[Family]:
        """What the machine does, as read at most `MAX_AGE_S` ago."""
        async with self._reading:
            if time.monotonic() - self._read_at >= MAX_AGE_S:
                self._told = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
        return self._told

    @cached_property
    def _process(self) -> psutil.Process:
        import psutil  # at the first reading: a program answers before anybody asks how it is

        return psutil.Process()

    def close(self) -> None:
        """Lets go of the driver."""
        if self._handles and self._nvml is not None:
            self._nvml.nvmlShutdown()
        self._handles = []

    def _read(self) -> list[Family]:
        return [*self._process_families(), *self._machine_families(), *self._gpu_families()]

    def _process_families(self) -> list[Family]:
        process = self._process
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            threads, started_unix_s = process.num_threads(), process.create_time()
        before, since = self._cpu_before
        self._cpu_before = cpu_s, now = times.user + times.system, time.monotonic()
        busy = max(cpu_s - before, 0.0) / max(now - since, 1e-3)
        return [
            Family(
                "process_cpu_seconds_total",
                Kind.COUNTER,
                "CPU time of this process.",
                [({}, cpu_s)],
            ),
            Family("process_resident_memory_bytes", Kind.GAUGE, "Memory that this process holds.", [({}, memory.rss)]),
            Family(
                "process_start_time_seconds",
                Kind.GAUGE,
                "When this process began, Unix time.",
                [({}, started_unix_s)],
            ),
            Family("process_threads", Kind.GAUGE, "Threads of this process.", [({}, threads)]),
            Family("edgeward_process_cpu_cores", Kind.GAUGE, "Cores that this process keeps busy.", [({}, busy)]),
        ]

    def _machine_families(self) -> list[Family]:
        import psutil

        memory = psutil.virtual_memory()
        states: list[Sample] = [
            ({"state": "total"}, memory.total),
            ({"state": "available"}, memory.available),
            ({"state": "used"}, memory.total - memory.available),
        ]
        return [
            Family(
                "edgeward_machine_cpu_ratio",
                Kind.GAUGE,
                "Share of the machine's cores that is busy.",
                [({}, psutil.cpu_percent() / 100)],
            ),
            Family("edgeward_machine_memory_bytes", Kind.GAUGE, "Memory of the machine.", states),
        ]

    def _gpu_families(self) -> list[Family]:
        nvml, handles = self._nvml, self._open_nvml()
        if nvml is None or not handles:
            return []
        told: dict[str, list[Sample]] = {name: [] for name in _GPU_TEXTS}
        for index, handle in enumerate(handles):
            try:
                uuid = nvml.nvmlDeviceGetUUID(handle)
            except nvml.NVMLError:  # a GPU that has fallen off the bus
                continue
            gpu = {"gpu": str(index), "uuid": uuid.decode() if isinstance(uuid, bytes) else uuid}
            for read in (_busy, _memory, _power, _power_limit):
                # Not every GPU tells all of it; what it tells stays.
                with suppress(nvml.NVMLError):
                    for name, labels, value in read(nvml, handle):
                        told[name].append(({**gpu, **labels}, value))
        return [Family(name, Kind.GAUGE, text, told[name]) for name, text in _GPU_TEXTS.items()]

    def _open_nvml(self) -> list[Any]:
        if self._handles is None:
            self._handles = []
            if self._nvml is None:
                try:
                    import pynvml
                except ImportError:
                    return self._handles
                self._nvml = pynvml
            try:
                self._nvml.nvmlInit()
                self._handles = [
                    self._nvml.nvmlDeviceGetHandleByIndex(at) for at in range(self._nvml.nvmlDeviceGetCount())
                ]
            except self._nvml.NVMLError as error:
                log.info("no GPU metrics: NVML says %s", error)
        return self._handles


_GPU_TEXTS: Final = {
    "edgeward_gpu_busy_ratio": "Share of time in which the GPU was busy, 0..1.",
    "edgeward_gpu_memory_bytes": "Memory of the GPU.",
    "edgeward_gpu_power_watts": "Power that the GPU draws.",
    "edgeward_gpu_power_limit_watts": "Power that the GPU may draw.",
}
_Reading = Iterator[tuple[str, Mapping[str, str], float]]


def _busy(nvml: Any, handle: Any) -> _Reading:
    yield "edgeward_gpu_busy_ratio", {}, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100


def _memory(nvml: Any, handle: Any) -> _Reading:
    held = nvml.nvmlDeviceGetMemoryInfo(handle)
    yield "edgeward_gpu_memory_bytes", {"state": "total"}, held.total
    yield "edgeward_gpu_memory_bytes", {"state": "used"}, held.used


def _power(nvml: Any, handle: Any) -> _Reading:
    yield "edgeward_gpu_power_watts", {}, nvml.nvmlDeviceGetPowerUsage(handle) / 1000


def _power_limit(nvml: Any, handle: Any) -> _Reading:
    yield "edgeward_gpu_power_limit_watts", {}, nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000

"""Energy that the machine used, where it tells: RAPL (Linux, Intel and AMD processors) and NVML (NVIDIA GPUs).

Both count the whole package or board, whoever kept it busy: on a machine that does something else besides, it is too much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Counter:
    """A meter that only rises, and begins again at `wraps_j` where it has such an end."""

    name: str
    read_j: Callable[[], float]
    wraps_j: float | None = None

    def between(self, before_j: float, after_j: float) -> float:
        """Joules from one reading to the next."""
        return after_j - before_j + (self.wraps_j or 0.0 if after_j < before_j else 0.0)


class EnergyMeter:
    """Every counter of this machine. `used_j` after `start`; both are quick, and a counter that fails is left out."""

    def __init__(self, counters: Sequence[Counter], reasons: Sequence[str]) -> None:
        self._counters = counters
        self._reasons = reasons
        self._before: dict[str, float] = {}

    @classmethod
    def of_this_machine(cls) -> EnergyMeter:
        """Finds what there is; opening NVML takes a moment."""
        rapl, no_rapl = rapl_counters(POWERCAP)
        nvml, no_nvml = nvml_counters()
        return cls([*rapl, *nvml], [reason for reason in (no_rapl, no_nvml) if reason])

    def start(self) -> None:
        """Reads every counter."""
        self._before = _readings(self._counters)

    def header(self, requests: int) -> dict[str, Any]:
        """What was used since `start`: joules in all, by counter and by 1,000 requests; null and the reason where unknown."""
        after = _readings(self._counters)
        used = {
            c.name: c.between(self._before[c.name], after[c.name])
            for c in self._counters
            if c.name in self._before and c.name in after
        }
        total = sum(used.values()) if used else None
        return {
            "joules": total,
            "joules_per_1000": None if total is None or not requests else total / requests * 1000,
            "counters": used,
            "reason": None if used else "; ".join(self._reasons) or "the counters could not be read",
        }


def rapl_counters(folder: Path) -> tuple[list[Counter], str | None]:
    """The processor packages below `folder`, or why there are none. Parts of a package (core, dram) are not counted twice."""
    found, problem = [], f"no RAPL: {folder} is absent (not Linux on Intel or AMD, or a virtual machine)"
    for zone in sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []:
        if zone.name.count(":") != 1:
            continue
        file = zone / "energy_uj"
        try:
            float(file.read_text(encoding="ascii"))
            name = (zone / "name").read_text(encoding="ascii").strip()
            wraps_j = float((zone / "max_energy_range_uj").read_text(encoding="ascii")) / 1e6
        except OSError as error:
            problem = f"no RAPL: {file} cannot be read ({error.strerror}); run as root, or allow it with chmod a+r"
            continue
        found.append(Counter(f"rapl {zone.name} {name}", lambda file=file: _microjoules(file), wraps_j))  # type: ignore[misc]
    if not found and folder.is_dir() and "cannot be read" not in problem:
        problem = f"no RAPL: {folder} has no intel-rapl zone (a virtual machine, or a processor without it)"
    return found, None if found else problem


def nvml_counters() -> tuple[list[Counter], str | None]:
    """One counter for each NVIDIA GPU that counts energy (Volta and newer), or why there are none."""
    try:
        import pynvml
    except ImportError:
        return [], "no NVML: nvidia-ml-py is not installed"
    nvml: Any = pynvml
    found = []
    try:
        nvml.nvmlInit()
        for number in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            found.append(Counter(f"nvml gpu {number}", _nvml_reader(nvml, handle)))
    except nvml.NVMLError as error:
        return found, None if found else f"no NVML: {error}"
    return found, None if found else "no NVML: the driver lists no GPU"


def _microjoules(file: Path) -> float:
    return float(file.read_text(encoding="ascii")) / 1e6


def _nvml_reader(nvml: Any, handle: Any) -> Callable[[], float]:
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000  # millijoules


def _readings(counters: Sequence[Counter]) -> dict[str, float]:
    found = {}
    for counter in counters:
        try:
            found[counter.name] = counter.read_j()
        except Exception:  # noqa: S112  (NVML's errors have no class of ours; a counter that went away is left out)
            continue
    return found

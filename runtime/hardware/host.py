"""Where facts come from: files under a root, and the few questions only a live operating system answers.

Everything impure of the probe passes through a `Host`. Built by hand over a recorded tree it answers from that tree
alone, so that tests see other machines; `Host.this_machine()` asks the real one.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
"""More than /proc/cpuinfo of a 2048-core machine (1.5 KB a core); a bound on whatever else lies there."""

CHUNK_BYTES: Final = 64 * 1024

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""Windows would translate the ends of lines."""

MAX_NUMBER: Final = 2**64
"""No counter of the kernel is larger; a longer number in a file is garbage."""

COMMAND_TIMEOUT_S: Final = 5.0
"""nvidia-smi without persistence mode initialises the driver first, which takes a few seconds."""


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a program printed; `error` says why it did not succeed (None: it did)."""

    stdout: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Total and available bytes of main memory, as the operating system says."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class BatteryReading:
    """Charge of the battery and whether the machine runs from it (None: the system cannot tell)."""

    percent: float
    on_battery: bool | None


def _not_recorded(command: Sequence[str]) -> CommandOutput:
    return CommandOutput("", f"{command[0]} is not on PATH")


@dataclass(frozen=True, slots=True)
class Host:
    """A machine to ask. The defaults answer nothing: a recorded machine is its files and nothing more.

    `system` is `sys.platform`'s word (linux, darwin, win32); `arch` is x86_64, aarch64, or the platform's own word.
    """

    root: Path
    system: str
    arch: str
    release: str = ""
    run: Callable[[Sequence[str]], CommandOutput] = _not_recorded
    nvml: Callable[[], ModuleType | None] = lambda: None
    registry: Callable[[str], Mapping[str, object]] = lambda key: {}
    numpy_features: Callable[[], Mapping[str, bool]] = dict
    logical_cores: Callable[[], int | None] = lambda: None
    physical_cores: Callable[[], int | None] = lambda: None
    affinity: Callable[[], int | None] = lambda: None
    memory: Callable[[], MemoryReading | None] = lambda: None
    battery: Callable[[], BatteryReading | None] = lambda: None

    @classmethod
    def this_machine(cls) -> Host:
        """The machine this process runs on."""
        return cls(
            root=Path("/"),
            system=sys.platform,
            arch=normal_arch(platform.machine()),
            release=platform.release(),
            run=_run,
            nvml=_nvml,
            registry=_registry_values,
            numpy_features=_numpy_features,
            logical_cores=os.cpu_count,
            physical_cores=_physical_cores,
            affinity=_affinity,
            memory=_memory,
            battery=_battery,
        )

    def read(self, path: str) -> str | None:
        """The stripped text of an absolute path below the root; None when it cannot be read."""
        try:
            file = os.open(
                self._below_root(path), os.O_RDONLY | _BINARY
            )  # a file object takes as long again, 40 times a probe
            try:
                content = b"".join(_chunks(file))
            finally:
                os.close(file)
            return content.decode("utf-8", errors="replace").strip(" \t\r\n\0")
        except (OSError, ValueError):
            return None

    def read_number(self, path: str) -> int | None:
        """The one non-negative whole number a file holds; None for anything else."""
        text = self.read(path)
        return None if text is None else parse_number(text)

    def names(self, path: str) -> tuple[str, ...]:
        """The sorted names in a directory; empty when there is no such directory."""
        try:
            return tuple(sorted(os.listdir(self._below_root(path))))  # noqa: PTH208
        except (OSError, ValueError):
            return ()

    def exists(self, path: str) -> bool:
        """Whether something lies at an absolute path below the root."""
        try:
            return os.path.exists(self._below_root(path))  # noqa: PTH110
        except (OSError, ValueError):
            return False

    def changed_ns(self, path: str) -> int | None:
        """When an entry of a directory, or a file, was last changed, by the file system's clock; None where there is none."""
        try:
            return os.stat(self._below_root(path)).st_mtime_ns  # noqa: PTH116
        except (OSError, ValueError):
            return None

    def _below_root(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))  # noqa: PTH118


def _chunks(file: int) -> Iterator[bytes]:
    """A file up to the bound, in pieces: asked for megabytes, a file of /proc/sys says ENOMEM (Linux 6.18, proc_sysctl.c)."""
    for _ in range(MAX_FILE_BYTES // CHUNK_BYTES):
        chunk = os.read(file, CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def parse_number(text: str) -> int | None:
    """A non-negative decimal number of at most 64 bits; None for any other text."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number < MAX_NUMBER else None


def normal_arch(machine: str) -> str:
    """One word per architecture: Windows says AMD64 and ARM64, macOS arm64, Linux x86_64 and aarch64."""
    word = machine.lower()
    return {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(word, word)


def _run(command: Sequence[str]) -> CommandOutput:
    program = shutil.which(command[0])
    if program is None:
        return CommandOutput("", f"{command[0]} is not on PATH")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CommandOutput("", f"{command[0]} did not answer within {COMMAND_TIMEOUT_S:g} s")
    except OSError as error:
        return CommandOutput("", f"{command[0]} could not be started: {error}")
    if done.returncode == 0:
        return CommandOutput(done.stdout)
    said = " ".join((done.stderr.strip() or done.stdout.strip()).split()) or "no message"
    return CommandOutput(done.stdout, f"{command[0]} ended with exit code {done.returncode}: {said[:300]}")


def _nvml() -> ModuleType | None:
    # The binding takes 15 ms to import (nvidia-ml-py 13, November 2026), which is more than a small model takes to load, and
    # without the driver's library all it can say is that this is missing.
    if sys.platform == "linux" and not _is_loadable("libnvidia-ml.so.1"):
        return None
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _numpy_features() -> Mapping[str, bool]:
    """The CPUID table of numpy: the one reader of instruction sets that is there on every system.

    The table is private to numpy and has moved before; where it is gone the features are unknown, not absent.
    """
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            table = getattr(importlib.import_module(name), "__cpu_features__", None)
        except ImportError:
            continue
        if isinstance(table, dict):
            return {str(feature): bool(there) for feature, there in table.items()}
    return {}


def _registry_values(key: str) -> Mapping[str, object]:
    """The values of a key below HKEY_LOCAL_MACHINE; empty off Windows and where there is no such key."""
    values: dict[str, object] = {}
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
                for index in range(winreg.QueryInfoKey(handle)[1]):
                    name, value, _ = winreg.EnumValue(handle, index)
                    values[name] = value
        except OSError:
            return values
    return values


def _physical_cores() -> int | None:
    import psutil

    return psutil.cpu_count(logical=False)


def _affinity() -> int | None:
    if hasattr(os, "sched_getaffinity"):  # a tenth of the time that psutil takes
        try:
            return len(os.sched_getaffinity(0)) or None
        except OSError:
            return None
    import psutil

    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):  # macOS has no affinity
        return None
    try:
        return len(process.cpu_affinity() or ()) or None
    except (psutil.Error, OSError):
        return None


def _memory() -> MemoryReading | None:
    import psutil

    try:
        reading = psutil.virtual_memory()
    except (psutil.Error, OSError, ValueError):
        return None
    return MemoryReading(int(reading.total), int(reading.available))


def _battery() -> BatteryReading | None:
    import psutil

    sensors = getattr(psutil, "sensors_battery", None)
    if sensors is None:
        return None
    try:
        reading = sensors()
    except (psutil.Error, OSError, ValueError):
        return None
    if reading is None:
        return None
    plugged = reading.power_plugged
    return BatteryReading(float(reading.percent), None if plugged is None else not plugged)

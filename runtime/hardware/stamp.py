"""A word that stays the same while the fingerprint cannot have changed, for a tenth of what a probe takes.

Within one boot a processor stays what it is. What may change is which cores this process may use, and devices and their
drivers, whose coming and going shows in a few directories.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Final

from runtime.hardware.cgroup import read_mountinfo, read_quotas
from runtime.hardware.host import Host

DEVICES: Final = (
    "/dev",
    "/dev/dri",
    "/dev/accel",
    "/sys/class/drm",
    "/sys/class/accel",
    "/sys/bus/pci/devices",
    "/sys/bus/usb/devices",
)
"""A node that is made or removed changes the time of its directory."""
NVIDIA_DRIVER: Final = "/proc/driver/nvidia/version"
BOOT: Final = "/proc/sys/kernel/random/boot_id"
ONLINE: Final = "/sys/devices/system/cpu/online"


def read_stamp(host: Host | None = None) -> str | None:
    """32 hexadecimal digits; None where the system has no word for a boot (it is no Linux): then only a probe can tell."""
    lasting = _of_this_process() if host is None else _read_lasting(host)
    host = lasting.host
    if host.system != "linux" or not lasting.boot:
        return None
    facts = (
        lasting.boot,
        host.read(ONLINE),
        host.affinity(),
        read_quotas(host, lasting.mountinfo),
        [host.changed_ns(path) for path in DEVICES],
        host.read(NVIDIA_DRIVER),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Lasting:
    """What stays as long as a process lives: a half of what there is to read."""

    host: Host
    boot: str | None
    mountinfo: str | None
    """Groups come and go, and processes move between them; where control groups are mounted is set up before any starts."""


def _read_lasting(host: Host) -> _Lasting:
    return _Lasting(host, host.read(BOOT), read_mountinfo(host))


@cache
def _of_this_process() -> _Lasting:
    return _read_lasting(Host.this_machine())

"""The stamp stays while nothing changed, and changes with whatever may change the fingerprint within a boot."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from runtime.hardware import Host, probe, read_stamp
from tests.runtime.hardware.conftest import Record

FILES = {
    "/proc/sys/kernel/random/boot_id": "7d2b\n",
    "/sys/devices/system/cpu/online": "0-3",
    "/proc/self/cgroup": "0::/app\n",
    "/proc/self/mountinfo": "30 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "/sys/fs/cgroup/app/cpu.max": "200000 100000",
    "/sys/fs/cgroup/app/memory.stat": "inactive_file 5",
    "/dev/null": "",
}


def test_it_stays_whatever_else_happens(record: Record) -> None:
    host = record(FILES, affinity=lambda: 4)
    before = read_stamp(host)
    assert before is not None
    assert len(before) == 32
    (host.root / "sys/fs/cgroup/app/memory.stat").write_text("inactive_file 9")
    assert read_stamp(host) == before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/sys/kernel/random/boot_id", "other"),
        ("/sys/devices/system/cpu/online", "0-2"),
        ("/sys/fs/cgroup/app/cpu.max", "100000 100000"),
        ("/proc/driver/nvidia/version", "NVRM version: 580.1"),
    ],
)
def test_it_sees_the_boot_cores_quota_and_driver(record: Record, path: str, text: str) -> None:
    host = record(FILES, affinity=lambda: 4)
    before = read_stamp(host)
    file = host.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert read_stamp(host) != before


def test_it_sees_a_device_that_comes_and_the_affinity(record: Record) -> None:
    host = record(FILES, affinity=lambda: 4)
    os.utime(host.root / "dev", (1, 1))
    before = read_stamp(host)
    (host.root / "dev" / "nvidia0").touch()
    assert read_stamp(host) != before
    assert read_stamp(replace(host, affinity=lambda: 2)) != read_stamp(host)


def test_without_a_boot_id_only_a_probe_can_tell(record: Record) -> None:
    assert read_stamp(record({})) is None
    assert read_stamp(record(FILES, system="darwin")) is None


def test_this_machine_is_the_same_twice() -> None:
    host = Host.this_machine()
    assert read_stamp(host) == read_stamp()
    assert probe().fingerprint() == probe().fingerprint()

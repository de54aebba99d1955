"""The cores allowed: affinity, quota, and what is done when one is unknown."""

from __future__ import annotations

import pytest

from runtime.hardware.cgroup import CgroupLimits, CpuQuota
from runtime.hardware.cores import allow, allowed_threads, parse_affinity, read_allowed_cores
from runtime.hardware.cpu import Cpu
from runtime.hardware.missing import reason_for


def processor(logical: int | None) -> Cpu:
    return Cpu(None, None, (), (), logical, None)


@pytest.mark.parametrize(
    ("logical", "affinity", "quota", "cores", "threads"),
    [
        (8, 8, None, 8.0, 8),
        (8, 3, None, 3.0, 3),
        (8, 8, 1.5, 1.5, 1),
        (8, 8, 2.0, 2.0, 2),
        (8, 8, 0.25, 0.25, 1),
        (8, 2, 6.0, 2.0, 2),
        (8, 8, 64.0, 8.0, 8),
        (8, None, None, 8.0, 8),
        (None, 4, None, 4.0, 4),
        (4, 16, None, 4.0, 4),
        (None, None, None, 1.0, 1),
        (None, None, 0.5, 0.5, 1),
        (None, None, 16.0, 1.0, 1),  # a quota alone does not say that there are 16 cores
        (8, 8, 1e19, 8.0, 8),
    ],
)
def test_the_tightest_limit_wins(logical, affinity, quota, cores: float, threads: int) -> None:
    allowed = allow(logical, affinity, None if quota is None else CpuQuota(quota, "/cpu.max"))
    assert (allowed.cores, allowed.threads) == (cores, threads)
    assert allowed.affinity_cores == affinity
    assert allowed.quota_cores == quota
    assert allowed.quota_source == (None if quota is None else "/cpu.max")


@pytest.mark.parametrize(
    ("status", "online", "cores"),
    [
        ("Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n", "0-7", 8),
        ("Cpus_allowed_list:\t0-127\n", "0-3", 4),  # the mask names processors that do not exist
        ("Cpus_allowed_list:\t0,2\n", "", 2),
        ("Cpus_allowed_list:\t5\n", "0-3", None),
        ("Cpus_allowed_list:\tgarbage\n", "0-3", None),
        ("Name:\tpython\n", "0-3", None),
        ("", "", None),
    ],
)
def test_affinity_of_the_status_file(status: str, online: str, cores: int | None) -> None:
    assert parse_affinity(status, online) == cores


def test_linux_reads_its_files_and_other_systems_are_asked(record) -> None:
    host = record({"/proc/self/status": "Cpus_allowed_list:\t1-2\n", "/sys/devices/system/cpu/online": "0-3\n"})
    allowed = read_allowed_cores(host, processor(4), CgroupLimits())
    assert (allowed.cores, allowed.threads, allowed.missing) == (2.0, 2, ())
    windows = read_allowed_cores(record(system="win32", affinity=lambda: 3), processor(8), None)
    assert windows.threads == 3
    assert reason_for(windows.missing, "CPU quota") == "no CPU quota is read on win32: it has no control groups"


def test_threads_are_known_by_affinity_and_quota_alone(record) -> None:
    files = {
        "/proc/self/status": "Cpus_allowed_list:\t0-5\n",
        "/sys/devices/system/cpu/online": "0-63\n",
        "/proc/self/cgroup": "0::/kubepods/pod\n",
        "/proc/self/mountinfo": "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
        "/sys/fs/cgroup/kubepods/pod/cpu.max": "200000 100000\n",
    }
    assert allowed_threads(record(files, logical_cores=lambda: 64)) == 2
    del files["/sys/fs/cgroup/kubepods/pod/cpu.max"]
    assert allowed_threads(record(files, logical_cores=lambda: 64)) == 6


def test_what_is_unknown_is_said(record) -> None:
    allowed = read_allowed_cores(record(), processor(None), None)
    assert (allowed.cores, allowed.threads) == (1.0, 1)
    assert reason_for(allowed.missing, "affinity") == "the affinity is unknown: linux does not tell it"
    assert reason_for(allowed.missing, "CPU quota") == "the CPU quota is unknown: /proc/self/cgroup cannot be read"
    assert reason_for(allowed.missing, "allowed cores") == "the allowed cores are unknown: one core is assumed"

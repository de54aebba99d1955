"""Files below the root, numbers in files, and commands of the live machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from runtime.hardware import Host
from runtime.hardware.host import normal_arch, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        (" 42\n", 42),
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), None),
        ("9" * 5000, None),  # int() itself refuses more than 4300 digits
        ("-1", None),
        ("1.5", None),
        ("1_000", None),
        ("٣", None),  # a digit to str.isdigit, not to the kernel
        ("²", None),
        ("max", None),
        ("", None),
    ],
)
def test_a_number_is_digits_of_at_most_64_bits(text: str, number: int | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("AMD64", "x86_64"), ("x86_64", "x86_64"), ("ARM64", "aarch64"), ("arm64", "aarch64"), ("armv7l", "armv7l")],
)
def test_one_word_per_architecture(machine: str, arch: str) -> None:
    assert normal_arch(machine) == arch


def test_reads_stay_below_the_root_and_say_none_for_what_is_not_there(record) -> None:
    host = record({"/sys/one": " 7\n", "/sys/bad": b"\xff\xfe\x00"})
    assert host.read("/sys/one") == "7"
    assert host.read_number("/sys/one") == 7
    assert host.read_number("/sys/bad") is None
    assert host.read("/sys") is None  # a directory
    assert host.read("/proc/cpuinfo") is None
    assert host.read("/sys/\0") is None
    assert host.names("/sys") == ("bad", "one")
    assert host.names("/nowhere") == host.names("/sys/one") == ()
    assert host.exists("/sys/one")
    assert not host.exists("/etc/passwd")


def test_a_recorded_machine_answers_from_its_files_alone(record) -> None:
    host = record()
    assert host.run(["nvidia-smi"]).error == "nvidia-smi is not on PATH"
    assert host.nvml() is None
    assert host.memory() is host.battery() is host.affinity() is host.logical_cores() is None


def test_commands_of_this_machine_answer_or_say_why_not() -> None:
    host = Host.this_machine()
    assert host.run([sys.executable, "-c", "print('yes')"]).stdout.strip() == "yes"
    failed = host.run([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"])
    assert failed.error is not None
    assert "exit code 3: no luck" in failed.error
    assert host.run(["no-such-program-anywhere"]).error == "no-such-program-anywhere is not on PATH"


def test_this_machine_tells_its_memory_and_numpy_its_features() -> None:
    host = Host.this_machine()
    reading = host.memory()
    assert reading is not None
    assert 0 < reading.available_bytes <= reading.total_bytes
    assert "AVX2" in host.numpy_features()


@pytest.mark.skipif(not Path("/proc/sys/kernel/osrelease").exists(), reason="this system has no /proc/sys")
def test_a_kernel_setting_is_read_although_it_refuses_large_reads() -> None:
    assert Host.this_machine().read("/proc/sys/kernel/osrelease") == platform.release()

"""The processor, as x86 and arm Linux, macOS and Windows tell it."""

from __future__ import annotations

import pytest

from runtime.hardware import IsaFeature
from runtime.hardware.cpu import (
    common_flags,
    model_of,
    parse_cpu_list,
    parse_cpuinfo,
    parse_sysctl,
    physical_from_cpuinfo,
    read_cpu,
    signature_of,
)
from runtime.hardware.host import CommandOutput
from runtime.hardware.missing import reason_for


def x86_processor(number: int, core: int, flags: str = "fpu sse4_1 avx avx2 fma avx512f avx512_vnni amx_int8") -> str:
    return (
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
        f"model name\t: Intel(R)  Xeon(R) Gold\nstepping\t: 8\nphysical id\t: 0\ncore id\t\t: {core}\n"
        f"flags\t\t: {flags}\npower management:\n\n"
    )


def arm_processor(number: int, part: str = "0xd0b", features: str = "fp asimd asimddp i8mm sve") -> str:
    return (
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
    )


RASPBERRY_TAIL = "Revision\t: d04170\nSerial\t\t: 0\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
HYPERTHREADED = "".join(x86_processor(number, number % 2) for number in range(4))


def test_x86_linux(record) -> None:
    cpu = read_cpu(record({"/proc/cpuinfo": HYPERTHREADED, "/sys/devices/system/cpu/online": "0-3\n"}))
    assert cpu.model == "Intel(R) Xeon(R) Gold"
    assert cpu.signature == "GenuineIntel 6/143/8"
    assert (cpu.logical_cores, cpu.physical_cores) == (4, 2)
    assert cpu.features == (
        IsaFeature.SSE4_1,
        IsaFeature.AVX,
        IsaFeature.AVX2,
        IsaFeature.FMA,
        IsaFeature.AVX512F,
        IsaFeature.AVX512_VNNI,
        IsaFeature.AMX_INT8,
    )
    assert cpu.has(IsaFeature.AVX2) is True
    assert cpu.has(IsaFeature.AVX_VNNI) is False
    assert cpu.has(IsaFeature.NEON) is False
    assert cpu.missing == ()


def test_arm_linux_with_its_board_block(record) -> None:
    text = "".join(arm_processor(number) for number in range(4)) + RASPBERRY_TAIL
    siblings = {f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n}\n" for n in range(4)}
    cpu = read_cpu(record({"/proc/cpuinfo": text, **siblings}, arch="aarch64"))
    assert cpu.model == "Cortex-A76"
    assert cpu.signature == "0x41/0xd0b/0x4.1"
    assert (cpu.logical_cores, cpu.physical_cores) == (4, 4)
    assert set(cpu.features) == {IsaFeature.NEON, IsaFeature.DOTPROD, IsaFeature.I8MM, IsaFeature.SVE}
    assert cpu.missing == ()


def test_cores_of_two_kinds_are_both_named_and_share_only_their_common_features() -> None:
    text = arm_processor(0, "0xd05", "fp asimd") + arm_processor(1, "0xd05", "fp asimd") + arm_processor(2)
    processors = parse_cpuinfo(text)
    assert model_of(processors) == "Cortex-A55 + Cortex-A76"
    assert common_flags(processors) == {"fp", "asimd"}
    assert signature_of(processors) == "0x41/0xd05/0x4.1 + 0x41/0xd0b/0x4.1"


def test_a_core_nobody_has_named_keeps_its_numbers() -> None:
    assert model_of(parse_cpuinfo(arm_processor(0, "0xfff"))) == "ARM implementer 0x41 part 0xfff"
    assert model_of(parse_cpuinfo("processor: 0\nCPU implementer: what\nCPU part: 0xzz\n")) is None


def test_the_32_bit_kernel_says_neon(record) -> None:
    text = "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nFeatures\t: half thumb neon vfpv4\n"
    cpu = read_cpu(record({"/proc/cpuinfo": text}, arch="armv7l"))
    assert cpu.model == "ARMv7 Processor rev 4 (v7l)"
    assert cpu.features == (IsaFeature.NEON,)


def test_physical_cores_need_every_processors_place() -> None:
    assert physical_from_cpuinfo(parse_cpuinfo(HYPERTHREADED)) == 2
    assert physical_from_cpuinfo(parse_cpuinfo(HYPERTHREADED + arm_processor(4))) is None
    assert physical_from_cpuinfo([]) is None


def test_topology_of_sysfs_wins_over_cpuinfo(record) -> None:
    files = {f"/sys/devices/system/cpu/cpu{n}/topology/core_cpus_list": f"{n}" for n in range(4)}
    cpu = read_cpu(record({"/proc/cpuinfo": HYPERTHREADED, "/sys/devices/system/cpu/cpufreq/x": "", **files}))
    assert cpu.physical_cores == 4


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", {0}),
        ("0-3,8", {0, 1, 2, 3, 8}),
        ("0-1,1-2\n", {0, 1, 2}),
        ("", set()),
        ("3-1", set()),
        ("0-", set()),
        ("-3", set()),
        ("0,,1", set()),
        ("a-b", set()),
        ("0-99999999999999", set()),
        ("0-65535", set(range(65536))),
        ("65536", set()),
    ],
)
def test_the_kernels_lists_of_processors(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00garbage\x00" * 50,
        b":::\n::\n\n\n:",
        b"processor\n\n",
        b"processor: \xd9\xa3\n",
        b"processor: " + b"9" * 6000,
        b"flags: avx2\n",
    ],
)
@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "riscv64"])
def test_an_unreadable_cpuinfo_makes_facts_unknown_and_not_absent(record, content: bytes, arch: str) -> None:
    cpu = read_cpu(record({"/proc/cpuinfo": content}, arch=arch))
    assert cpu.model is cpu.signature is cpu.logical_cores is cpu.physical_cores is None
    assert cpu.features == ()
    assert cpu.has(IsaFeature.AVX2) is (None if arch == "x86_64" else False)
    assert cpu.has(IsaFeature.NEON) is (None if arch == "aarch64" else False)
    for fact in ("processor model", "logical cores", "physical cores", "instruction sets"):
        assert reason_for(cpu.missing, fact)


def test_without_cpuinfo_the_live_system_still_counts_the_cores(record) -> None:
    assert read_cpu(record(logical_cores=lambda: 6)).logical_cores == 6


def sysctl(text: str):
    return lambda command: CommandOutput(text, "sysctl ended with exit code 1: unknown oid 'x'")


def test_an_intel_mac(record) -> None:
    text = (
        "machdep.cpu.vendor: GenuineIntel\nmachdep.cpu.brand_string: Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz\n"
        "machdep.cpu.family: 6\nmachdep.cpu.model: 158\nmachdep.cpu.stepping: 10\n"
        "machdep.cpu.features: FPU SSE4.1 AVX1.0 FMA\nmachdep.cpu.leaf7_features: AVX2 BMI1\n"
        "hw.logicalcpu: 12\nhw.physicalcpu: 6\n"
    )
    cpu = read_cpu(record(system="darwin", run=sysctl(text)))
    assert cpu.model == "Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz"
    assert cpu.signature == "GenuineIntel/6/158/10"
    assert set(cpu.features) == {IsaFeature.SSE4_1, IsaFeature.AVX, IsaFeature.FMA, IsaFeature.AVX2}
    assert cpu.has(IsaFeature.AVX512F) is False
    assert (cpu.logical_cores, cpu.physical_cores) == (12, 6)


def test_apple_silicon(record) -> None:
    text = (
        "machdep.cpu.brand_string: Apple M2\nhw.optional.neon: 1\nhw.optional.arm.FEAT_DotProd: 1\n"
        "hw.optional.arm.FEAT_I8MM: 0\nhw.logicalcpu: 8\nhw.physicalcpu: 8\n"
    )
    cpu = read_cpu(record(system="darwin", arch="aarch64", run=sysctl(text)))
    assert cpu.model == "Apple M2"
    assert cpu.features == (IsaFeature.NEON, IsaFeature.DOTPROD)
    assert cpu.has(IsaFeature.I8MM) is False
    assert cpu.has(IsaFeature.SVE) is None
    assert reason_for(cpu.missing, "instruction sets") == "not told by macOS: SVE"


def test_a_mac_that_says_nothing(record) -> None:
    cpu = read_cpu(record(system="darwin", arch="aarch64"))
    assert cpu.model is None
    assert cpu.has(IsaFeature.NEON) is None
    assert parse_sysctl("nonsense\nkey: a: b\n") == {"key": "a: b"}


def test_windows(record) -> None:
    values = {"ProcessorNameString": "AMD Ryzen 7 7840U  ", "Identifier": "AMD64 Family 25 Model 116 Stepping 1"}
    cpu = read_cpu(
        record(
            system="win32",
            registry=lambda key: values if "CentralProcessor" in key else {},
            numpy_features=lambda: {"SSE41": True, "AVX": True, "AVX2": True, "FMA3": True, "AVX512F": False},
            logical_cores=lambda: 16,
            physical_cores=lambda: 8,
        )
    )
    assert cpu.model == "AMD Ryzen 7 7840U"
    assert cpu.signature == "AMD64 Family 25 Model 116 Stepping 1"
    assert cpu.has(IsaFeature.FMA) is True
    assert cpu.has(IsaFeature.AVX512F) is False
    assert cpu.has(IsaFeature.AVX_VNNI) is None
    assert (cpu.logical_cores, cpu.physical_cores) == (16, 8)


def test_a_registry_of_odd_types_is_unknown(record) -> None:
    cpu = read_cpu(record(system="win32", registry=lambda key: {"ProcessorNameString": b"x", "Identifier": 3}))
    assert cpu.model is cpu.signature is None

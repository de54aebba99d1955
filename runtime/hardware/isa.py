"""The instruction sets that decide how fast a model runs, and their names in each system's mouth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class IsaFeature(StrEnum):
    """Instructions that inference libraries pick their kernels by; the value is the name people write."""

    SSE4_1 = "SSE4.1"
    AVX = "AVX"
    AVX2 = "AVX2"
    FMA = "FMA"
    AVX512F = "AVX-512F"
    AVX512_VNNI = "AVX512-VNNI"
    AVX_VNNI = "AVX-VNNI"
    AVX512_BF16 = "AVX512-BF16"
    AVX512_FP16 = "AVX512-FP16"
    AMX_INT8 = "AMX-INT8"
    AMX_BF16 = "AMX-BF16"
    NEON = "NEON"
    DOTPROD = "DOTPROD"
    I8MM = "I8MM"
    SVE = "SVE"


_F = IsaFeature

# arch/x86/include/asm/cpufeatures.h of the Linux kernel.
LINUX_X86: Final[Mapping[str, IsaFeature]] = {
    "sse4_1": _F.SSE4_1,
    "avx": _F.AVX,
    "avx2": _F.AVX2,
    "fma": _F.FMA,
    "avx512f": _F.AVX512F,
    "avx512_vnni": _F.AVX512_VNNI,
    "avx_vnni": _F.AVX_VNNI,
    "avx512_bf16": _F.AVX512_BF16,
    "avx512_fp16": _F.AVX512_FP16,
    "amx_int8": _F.AMX_INT8,
    "amx_bf16": _F.AMX_BF16,
}

# Documentation/arch/arm64/elf_hwcaps.rst; a 32-bit kernel says neon where a 64-bit one says asimd.
LINUX_ARM: Final[Mapping[str, IsaFeature]] = {
    "asimd": _F.NEON,
    "neon": _F.NEON,
    "asimddp": _F.DOTPROD,
    "i8mm": _F.I8MM,
    "sve": _F.SVE,
}

# machdep.cpu.features and machdep.cpu.leaf7_features of an Intel Mac.
MACOS_X86: Final[Mapping[str, IsaFeature]] = {
    "SSE4.1": _F.SSE4_1,
    "AVX1.0": _F.AVX,
    "AVX2": _F.AVX2,
    "FMA": _F.FMA,
    "AVX512F": _F.AVX512F,
    "AVX512VNNI": _F.AVX512_VNNI,
}

# hw.optional.* of Apple silicon: 1 present, 0 absent, no such key in an older macOS.
MACOS_ARM: Final[Mapping[str, IsaFeature]] = {
    "hw.optional.neon": _F.NEON,
    "hw.optional.AdvSIMD": _F.NEON,
    "hw.optional.arm.AdvSIMD": _F.NEON,
    "hw.optional.arm.FEAT_DotProd": _F.DOTPROD,
    "hw.optional.arm.FEAT_I8MM": _F.I8MM,
}

# numpy's CPUID table, read where the operating system has no list of its own (Windows).
NUMPY: Final[Mapping[str, IsaFeature]] = {
    "SSE41": _F.SSE4_1,
    "AVX": _F.AVX,
    "AVX2": _F.AVX2,
    "FMA3": _F.FMA,
    "AVX512F": _F.AVX512F,
    "AVX512VNNI": _F.AVX512_VNNI,
    "AVX512BF16": _F.AVX512_BF16,
    "AVX512FP16": _F.AVX512_FP16,
    "NEON": _F.NEON,
    "ASIMDDP": _F.DOTPROD,
    "SVE": _F.SVE,
}


@dataclass(frozen=True, slots=True)
class IsaReading:
    """Features seen, and features of this architecture the source does not tell about."""

    present: frozenset[IsaFeature]
    unknown: frozenset[IsaFeature]


def features_of(arch: str) -> frozenset[IsaFeature]:
    """The features a processor of this architecture may have; empty for one that is neither x86 nor arm."""
    if arch in {"x86_64", "i386", "i686", "x86"}:
        return frozenset(LINUX_X86.values())
    if arch.startswith(("aarch64", "arm")):
        return frozenset(LINUX_ARM.values())
    return frozenset()


def from_words(words: Iterable[str], names: Mapping[str, IsaFeature], arch: str) -> IsaReading:
    """A complete list of flags: what `names` knows and the list leaves out is absent."""
    possible = features_of(arch)
    present = frozenset(names[word] for word in words if word in names) & possible
    return IsaReading(present, possible - frozenset(names.values()))


def from_table(table: Mapping[str, bool], names: Mapping[str, IsaFeature], arch: str) -> IsaReading:
    """A table of yes and no: what is not in the table is unknown."""
    possible = features_of(arch)
    told = {names[key] for key in table if key in names}
    present = frozenset(names[key] for key, there in table.items() if there and key in names) & possible
    return IsaReading(present, possible - told)

"""The processor: its model, its instruction sets, its logical and physical cores.

How many of those cores this process may use is another question: see `cores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.hardware import isa
from runtime.hardware.host import Host, parse_number
from runtime.hardware.isa import IsaFeature, IsaReading
from runtime.hardware.missing import Missing

MAX_CPU_ID: Final = 65_536
"""Eight times the largest NR_CPUS Linux is built with (8192): a larger id is garbage, not a machine."""

WINDOWS_CPU_KEY: Final = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"

# `CPU part` of `CPU implementer` 0x41 (Arm Ltd), from each core's Technical Reference Manual (MIDR_EL1).
ARM_PARTS: Final[Mapping[int, str]] = {
    0xC07: "Cortex-A7",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD44: "Cortex-X1",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """What the processor is. `signature` tells apart processors that a hypervisor gives the same model name."""

    model: str | None
    signature: str | None
    features: tuple[IsaFeature, ...]
    unknown_features: tuple[IsaFeature, ...]
    logical_cores: int | None
    physical_cores: int | None
    missing: tuple[Missing, ...] = ()

    def has(self, feature: IsaFeature) -> bool | None:
        """Whether the processor has an instruction set; None when this system does not tell."""
        if feature in self.features:
            return True
        return None if feature in self.unknown_features else False


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one operating system told."""

    model: str | None
    signature: str | None
    isa: IsaReading
    logical_cores: int | None
    physical_cores: int | None
    isa_source: str


def read_cpu(host: Host) -> Cpu:
    """The processor of `host`."""
    if host.system == "linux":
        reading = _read_linux(host)
    elif host.system == "darwin":
        reading = _read_macos(host)
    else:
        reading = _read_elsewhere(host)
    return Cpu(
        model=reading.model,
        signature=reading.signature,
        features=_in_order(reading.isa.present),
        unknown_features=_in_order(reading.isa.unknown),
        logical_cores=reading.logical_cores,
        physical_cores=reading.physical_cores,
        missing=_missing(reading, host),
    )


def _missing(reading: _Reading, host: Host) -> tuple[Missing, ...]:
    missing = []
    for fact, value in (
        ("processor model", reading.model),
        ("logical cores", reading.logical_cores),
        ("physical cores", reading.physical_cores),
    ):
        if value is None:
            missing.append(Missing(fact, f"{fact}: unknown, {host.system} does not tell"))
    if reading.isa.unknown:
        names = ", ".join(_in_order(reading.isa.unknown))
        missing.append(Missing("instruction sets", f"not told by {reading.isa_source}: {names}"))
    if not isa.features_of(host.arch):
        missing.append(Missing("instruction sets", f"none are known here for the architecture '{host.arch}'"))
    return tuple(missing)


def _in_order(features: frozenset[IsaFeature]) -> tuple[IsaFeature, ...]:
    return tuple(feature for feature in IsaFeature if feature in features)


# Linux


def _read_linux(host: Host) -> _Reading:
    processors = parse_cpuinfo(host.read("/proc/cpuinfo") or "")
    online = parse_cpu_list(host.read("/sys/devices/system/cpu/online") or "")
    words = common_flags(processors)
    unreadable = IsaReading(frozenset(), isa.features_of(host.arch))
    return _Reading(
        model=model_of(processors),
        signature=signature_of(processors),
        isa=isa.from_words(words, {**isa.LINUX_X86, **isa.LINUX_ARM}, host.arch) if words else unreadable,
        logical_cores=len(online) or len(processors) or host.logical_cores(),
        physical_cores=_physical_from_topology(host) or physical_from_cpuinfo(processors),
        isa_source="/proc/cpuinfo",
    )


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """One mapping per processor of /proc/cpuinfo; blocks that describe the board are left out."""
    blocks: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not line.strip():
            blocks.append({})
        elif colon:
            blocks[-1].setdefault(key.strip(), value.strip())
    return [block for block in blocks if parse_number(block.get("processor", "")) is not None]


def common_flags(processors: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """The flags every processor has: a thread may run on the smallest core of a big.LITTLE machine."""
    flags = [
        frozenset((processor.get("flags") or processor.get("Features") or "").lower().split())
        for processor in processors
    ]
    return frozenset.intersection(*flags) if flags else frozenset()


def model_of(processors: Sequence[Mapping[str, str]]) -> str | None:
    """The model name; of a machine with several kinds of core all of them, in order (`Cortex-A55 + Cortex-A76`)."""
    names = dict.fromkeys(name for processor in processors if (name := _model_of_one(processor)))
    return " + ".join(names) or None


def _model_of_one(processor: Mapping[str, str]) -> str | None:
    implementer, part = _hex(processor.get("CPU implementer")), _hex(processor.get("CPU part"))
    if implementer == 0x41 and part is not None and part in ARM_PARTS:
        return ARM_PARTS[part]
    for key in ("model name", "cpu model", "cpu", "uarch"):
        if name := processor.get(key):
            return " ".join(name.split())
    if implementer is not None and part is not None:
        return f"ARM implementer {implementer:#04x} part {part:#05x}"
    return None


def signature_of(processors: Sequence[Mapping[str, str]]) -> str | None:
    """Vendor and numbers of the silicon: `GenuineIntel 6/143/8`, `0x41/0xd0b/r4p1`; None when not told."""
    signatures = []
    for processor in processors:
        if vendor := processor.get("vendor_id"):
            numbers = "/".join(processor.get(key, "?") for key in ("cpu family", "model", "stepping"))
            signatures.append(f"{vendor} {numbers}")
        elif implementer := processor.get("CPU implementer"):
            part, variant, revision = (processor.get(f"CPU {key}", "?") for key in ("part", "variant", "revision"))
            signatures.append(f"{implementer}/{part}/{variant}.{revision}")
    return " + ".join(dict.fromkeys(signatures)) or None


def physical_from_cpuinfo(processors: Sequence[Mapping[str, str]]) -> int | None:
    """Distinct (socket, core) pairs; None when any processor does not say where it sits (arm, some VMs)."""
    places = {(processor.get("physical id"), processor.get("core id")) for processor in processors}
    if not places or any(socket is None or core is None for socket, core in places):
        return None
    return len(places)


def _physical_from_topology(host: Host) -> int | None:
    base = "/sys/devices/system/cpu"
    siblings = set()
    for name in host.names(base):
        if name.startswith("cpu") and name[3:].isdigit():
            topology = f"{base}/{name}/topology"
            cores = host.read(f"{topology}/core_cpus_list") or host.read(f"{topology}/thread_siblings_list")
            if cores:
                siblings.add(cores)
    return len(siblings) or None


def parse_cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format, `0-3,8`; empty for anything that is not one."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first_text, dash, last_text = part.partition("-")
        first = parse_number(first_text)
        last = parse_number(last_text) if dash else first
        if first is None or last is None or first > last or last >= MAX_CPU_ID:
            return frozenset()
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def _hex(text: str | None) -> int | None:
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


# macOS


def _read_macos(host: Host) -> _Reading:
    facts = parse_sysctl(host.run(["sysctl", "machdep.cpu", "hw.optional", "hw.logicalcpu", "hw.physicalcpu"]).stdout)
    brand = facts.get("machdep.cpu.brand_string") or None
    numbers = [facts.get(f"machdep.cpu.{key}") for key in ("vendor", "family", "model", "stepping")]
    return _Reading(
        model=brand,
        signature="/".join(number for number in numbers if number) or None,
        isa=_macos_isa(facts, host.arch),
        logical_cores=parse_number(facts.get("hw.logicalcpu", "")) or host.logical_cores(),
        physical_cores=parse_number(facts.get("hw.physicalcpu", "")) or host.physical_cores(),
        isa_source="macOS",
    )


def _macos_isa(facts: Mapping[str, str], arch: str) -> IsaReading:
    words = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}".split()
    if arch == "x86_64" and words:
        return isa.from_words(words, isa.MACOS_X86, arch)
    table = {key: value == "1" for key, value in facts.items() if value in {"0", "1"}}
    return isa.from_table(table, isa.MACOS_ARM, arch)


def parse_sysctl(text: str) -> dict[str, str]:
    """`key: value` lines of sysctl(8)."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


# Windows and everything else


def _read_elsewhere(host: Host) -> _Reading:
    values = host.registry(WINDOWS_CPU_KEY)
    model, signature = values.get("ProcessorNameString"), values.get("Identifier")
    return _Reading(
        model=" ".join(model.split()) if isinstance(model, str) and model.strip() else None,
        signature=signature if isinstance(signature, str) else None,
        isa=isa.from_table(host.numpy_features(), isa.NUMPY, host.arch),
        logical_cores=host.logical_cores(),
        physical_cores=host.physical_cores(),
        isa_source="numpy's processor table (the system has no list of its own)",
    )

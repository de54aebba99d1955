"""Instruction sets: absent, present and not told are three different answers."""

from __future__ import annotations

import pytest

from runtime.hardware import Host, IsaFeature, isa, probe


def test_a_complete_list_of_flags_leaves_nothing_unknown() -> None:
    reading = isa.from_words(["sse4_1", "avx2", "made_up"], isa.LINUX_X86, "x86_64")
    assert reading.present == {IsaFeature.SSE4_1, IsaFeature.AVX2}
    assert reading.unknown == frozenset()


@pytest.mark.parametrize(("flag", "feature"), list(isa.LINUX_X86.items()))
def test_every_x86_flag(flag: str, feature: IsaFeature) -> None:
    assert isa.from_words([flag], isa.LINUX_X86, "x86_64").present == {feature}


@pytest.mark.parametrize(("flag", "feature"), list(isa.LINUX_ARM.items()))
def test_every_arm_flag(flag: str, feature: IsaFeature) -> None:
    assert isa.from_words([flag], isa.LINUX_ARM, "aarch64").present == {feature}


def test_every_feature_belongs_to_one_architecture() -> None:
    assert isa.features_of("x86_64") | isa.features_of("aarch64") == set(IsaFeature)
    assert not isa.features_of("x86_64") & isa.features_of("aarch64")
    assert isa.features_of("armv7l") == isa.features_of("aarch64")
    assert isa.features_of("riscv64") == frozenset()


def test_what_a_table_leaves_out_is_unknown_and_not_absent() -> None:
    reading = isa.from_table({"AVX2": True, "AVX512F": False, "NEON": False}, isa.NUMPY, "x86_64")
    assert reading.present == {IsaFeature.AVX2}
    assert IsaFeature.AVX512F not in reading.unknown
    assert {IsaFeature.FMA, IsaFeature.AVX_VNNI, IsaFeature.AMX_INT8} <= reading.unknown
    assert IsaFeature.NEON not in reading.unknown  # no x86 has it


def test_the_probe_agrees_with_numpys_own_reading_of_this_processor() -> None:
    cpu = probe().cpu
    host = Host.this_machine()
    told = isa.from_table(host.numpy_features(), isa.NUMPY, host.arch)
    comparable = isa.features_of(host.arch) - told.unknown - set(cpu.unknown_features)
    if not comparable:
        pytest.skip(f"numpy tells nothing of {host.arch}")
    assert {feature for feature in comparable if cpu.has(feature)} == told.present & comparable

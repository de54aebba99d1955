from pathlib import Path

import pytest

from benchmarks.energy import Counter, EnergyMeter, nvml_counters, rapl_counters


def zone(folder: Path, name: str, microjoules: int, label: str = "package-0") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "name").write_text(label + "\n")
    (folder / name / "max_energy_range_uj").write_text("1000000000\n")
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    return folder / name / "energy_uj"


def test_packages_are_read_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", 1_000_000, "core")
    counters, reason = rapl_counters(tmp_path)
    assert reason is None
    meter = EnergyMeter(counters, [])
    meter.start()
    package.write_text("8000000\n")
    header = meter.header(requests=500)
    assert header["joules"] == pytest.approx(3.0)
    assert header["joules_per_1000"] == pytest.approx(6.0)
    assert header["reason"] is None


def test_a_counter_that_begins_again_is_continued(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", 999_000_000)
    meter = EnergyMeter(rapl_counters(tmp_path)[0], [])
    meter.start()
    file.write_text("2000000\n")
    assert meter.header(1000)["joules"] == pytest.approx(3.0)


def test_what_is_absent_has_a_reason(tmp_path: Path) -> None:
    counters, reason = rapl_counters(tmp_path / "none")
    assert not counters
    assert "absent" in str(reason)
    empty, why = rapl_counters(tmp_path)
    assert not empty
    assert "no intel-rapl zone" in str(why)
    meter = EnergyMeter([], ["no RAPL: x", "no NVML: y"])
    meter.start()
    assert meter.header(10) == {
        "joules": None,
        "joules_per_1000": None,
        "counters": {},
        "reason": "no RAPL: x; no NVML: y",
    }


def test_a_counter_that_fails_is_left_out() -> None:
    def gone() -> float:
        raise OSError("unplugged")

    meter = EnergyMeter([Counter("gone", gone), Counter("fine", lambda: 1.0)], [])
    meter.start()
    assert meter.header(1)["counters"] == {"fine": 0.0}


def test_nvml_gives_counters_or_a_reason() -> None:
    counters, reason = nvml_counters()
    assert bool(counters) != bool(reason)

"""How fast statistics are taken, and what they take at rest: that the benchmark measures it at all."""

import pytest

from benchmarks.monitoring import speed


def test_every_block_is_counted_in_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.001)
    found = speed.measure()
    assert {entry["stream"] for entry in found} == set(speed.blocks())
    kinds = 2 if speed.has_sketches() else 1
    assert len(found) == kinds * len(speed.blocks())
    assert all(entry["values_per_cpu_s"] > 0 and entry["bytes_per_feature"] > 0 for entry in found)

"""Recordings made here, whose figures are known without measuring."""

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.samples import Recording, Samples
from benchmarks.scenarios import Kind, Scenario

SHA = "61f683d0d0029eace0a0f089aa58e0d75ac0db82398570ee7675b8a1e29de2a4"
ENVIRONMENT: dict[str, Any] = {
    "cpu": "some processor",
    "hardware_text": {
        "instruction sets": "SSE4.1, AVX2",
        "cores allowed": "2",
        "memory allowed": "1 GiB",
        "clock governor": "unknown",
    },
    "kernel": "6",
    "python": "3.11",
    "libraries": {"numpy": "2"},
    "load_before": [0.25, 0.5, 0.5],
    "commit": None,
}


def recording(where: str, n: int, scenario: Scenario = Scenario(Kind.SINGLE), **header: Any) -> Recording:  # noqa: B008
    """`n` requests a millisecond apart, answered within half to nine; parts of the header as given."""
    planned = np.arange(n, dtype=np.int64) * 1_000_000
    done = planned + np.random.default_rng(1).integers(500_000, 9_000_000, n)
    zeros = np.zeros(n, dtype=np.int64)
    made: dict[str, Any] = {
        "setting": {"model": "m", "target": where, "backend": "auto"},
        "scenario": scenario.to_dict(),
        "scenario_text": str(scenario),
        "target": {"model": "m</script>", "platform": "p", "server": "", "digests": {"variant": SHA}},
        "started": "2026-01-01T00:00:00+00:00",
        "inputs": "random rows",
        "statuses": ["ok"],
        "origins": [{"served_by": "edge", "backend": "a|b"}],
        "offered_qps": None,
        "invalid_reason": None,
        "was_stopped": False,
        "has_fallen_behind": False,
        "doubts": [],
        "cpu_s_per_1000": 0.125,
        "peak_memory_bytes": 77 << 20,
        "energy": {"joules_per_1000": 3.5, "reason": None},
        "seed": 1,
        "warm_up_s": 0.5,
        "environment": ENVIRONMENT,
    }
    parts = (zeros + 100_000, zeros + 20_000, zeros + 300_000)
    return Recording({**made, **header}, Samples(planned, planned, done, zeros + 1, zeros, zeros, *parts))


def with_errors(made: Recording, code: str, every: int) -> Recording:
    """The same, one in `every` requests failed."""
    status = (np.arange(len(made.samples)) % every == 0).astype(np.int64)
    header = {**made.header, "statuses": ["ok", code]}
    return Recording(header, replace(made.samples, status=status))

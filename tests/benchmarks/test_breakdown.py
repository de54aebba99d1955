from typing import Any

import numpy as np
import pytest

from benchmarks.breakdown import breakdown_of
from benchmarks.samples import Recording, Samples

MS = 1_000_000


def recording(target: str, parts: tuple[int, int, int] | None, ok: list[int]) -> Recording:
    n = len(ok)
    planned = np.arange(n, dtype=np.int64) * 10 * MS
    zeros = np.zeros(n, dtype=np.int64)
    told = () if parts is None else tuple(zeros + part for part in parts)
    samples = Samples(planned, planned + 2 * MS, planned + 9 * MS, zeros + 1, np.array(ok), zeros, *told)
    header: dict[str, Any] = {"setting": {"target": target}, "statuses": ["ok", "503 UNAVAILABLE"]}
    return Recording(header, samples)


def test_the_parts_add_up_to_the_latency() -> None:
    parts = breakdown_of(recording("grpc://h:1", (1 * MS, MS // 2, 3 * MS), [0, 0, 0]))
    assert parts is not None
    assert parts.to_dict() == pytest.approx({"client": 2.0, "wire": 2.5, "queue": 1.0, "batch": 0.5, "execute": 3.0})
    assert sum(parts.to_dict().values()) == pytest.approx(9.0)  # type: ignore[arg-type]


def test_a_server_that_does_not_tell_leaves_all_but_the_clients_part_open() -> None:
    for told in (None, (-1, -1, -1)):
        parts = breakdown_of(recording("grpc://h:1", told, [0, 0]))
        assert parts is not None
        assert parts.to_dict() == {"client": 2.0, "wire": None, "queue": None, "batch": None, "execute": None}


def test_in_process_all_is_execution() -> None:
    parts = breakdown_of(recording("inproc", None, [0]))
    assert parts is not None
    assert parts.execute == 7.0
    assert parts.wire == 0.0


def test_failed_requests_have_no_part_in_it() -> None:
    assert breakdown_of(recording("grpc://h:1", None, [1, 1])) is None

"""A large tensor is copied no oftener than the kept table says, on every front."""

from pathlib import Path

import pytest

from runtime.serving.grpc.front import why_not_native
from tests.runtime.serving.copies import FRONTS, TABLE, count, why_not_counted

# Headers of messages, and what else runs in the process.
BESIDE = 0.2


def kept() -> dict[str, list[float]]:
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows[2:]}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("front", FRONTS)
def test_a_large_tensor_is_copied_no_oftener_than_the_table_says(front: str, tmp_path: Path) -> None:
    why_not = why_not_counted() or (why_not_native(has_tls=False) if front == "native" else None)
    if why_not is not None:
        pytest.skip(why_not)
    told, known = count(front, tmp_path), kept()[front]
    assert told.into >= 1, "the counter counts: a request that is not copied at all cannot be"
    assert all(now <= then + BESIDE for now, then in zip((told.into, told.engine, told.out), known, strict=True)), told


def test_the_table_has_every_front() -> None:
    assert set(kept()) == set(FRONTS)

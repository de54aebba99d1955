"""A large tensor is copied no oftener than the kept table says, on every front."""

from pathlib import Path

import pytest

from tests.runtime.serving.copies import TABLE, TRANSPORTS, count, why_not_counted
from tests.runtime.serving.fronts import why_not

# Headers of messages, and what else runs in the process.
BESIDE = 0.2


def kept() -> dict[str, list[float]]:
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows[2:]}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("front", TRANSPORTS)
def test_a_large_tensor_is_copied_no_oftener_than_the_table_says(front: str, tmp_path: Path) -> None:
    if (reason := why_not_counted() or why_not(front)) is not None:
        pytest.skip(reason)
    told, known = count(front, tmp_path), kept()[front]
    assert told.into >= 1, "the counter counts: a request that is not copied at all cannot be"
    assert all(now <= then + BESIDE for now, then in zip((told.into, told.engine, told.out), known, strict=True)), told


def test_the_table_has_every_front() -> None:
    assert set(kept()) == set(TRANSPORTS)

"""Work in another process: what it returns, and what a failure, a crash, a hang or a hunger for memory comes to."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.building.isolated import Limits, WorkFailedError, run_isolated


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "some_work.py").write_text(
        textwrap.dedent(
            """
            import os, signal, sys, time
            from runtime.errors import BundleError
            def double(number): return {"twice": 2 * number}
            def refuse(): raise BundleError("the model has no weights")
            def fail(): raise ValueError("line one\\nline two")
            def crash(): os.kill(os.getpid(), signal.SIGKILL)
            def leave(): print("cannot go on", file=sys.stderr); os._exit(3)
            def hang(): time.sleep(600)
            def eat(): kept = [bytearray(64 << 20) for _ in range(64)]; time.sleep(600)
            def chatter(): print("noise" * 1000); return 1
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "some_work"
    sys.modules.pop("some_work", None)


def test_arguments_and_result_travel(work: str) -> None:
    assert run_isolated(f"{work}:double", {"number": 21}, Limits()) == {"twice": 42}


def test_what_it_prints_does_not_matter(work: str) -> None:
    assert run_isolated(f"{work}:chatter", {}, Limits()) == 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("refuse", "^the model has no weights$"),
        ("fail", "^ValueError: line one line two$"),
        pytest.param("crash", "ended by SIGKILL", marks=pytest.mark.skipif(sys.platform == "win32", reason="signals")),
        ("leave", r"exit code 3 \(cannot go on\)"),
        ("absent", "AttributeError"),
    ],
)
def test_a_failure_is_told_in_a_sentence(work: str, function: str, reason: str) -> None:
    with pytest.raises(WorkFailedError, match=reason):
        run_isolated(f"{work}:{function}", {}, Limits())


@pytest.mark.slow
def test_a_hang_is_ended(work: str) -> None:
    with pytest.raises(WorkFailedError, match=r"longer than 1 s and was ended"):
        run_isolated(f"{work}:hang", {}, Limits(time_s=1))


@pytest.mark.slow
def test_a_hunger_for_memory_is_ended(work: str) -> None:
    with pytest.raises(WorkFailedError, match="more than 300 MB"):
        run_isolated(f"{work}:eat", {}, Limits(memory_mb=300))

"""Which revision the micro benchmarks are compared with, what is read of their files, and that two trees are compared."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.micro.against import (
    MAX_SAMPLES,
    ROUNDS,
    NoComparisonError,
    compare_with,
    find_base,
    main,
    read_samples,
    unpack,
)
from benchmarks.significance import LEAST_BLOCKS

BENCHMARK = """
def test_sum(benchmark):
    assert benchmark(sum, range({size})) >= 0

def test_{only}(benchmark):
    benchmark(len, "")
"""


def git(root: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, with a benchmark that takes a hundred times as long in the second."""
    root = tmp_path / "repository"
    micro = root / "benchmarks" / "micro"
    micro.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "README").write_text("a tree without a file has no archive")
    for size, only in ((100, "before"), (10_000, "after")):
        (micro / "test_it.py").write_text(BENCHMARK.format(size=size, only=only))
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", only)
    return root


def test_the_base_is_where_a_branch_left_main_else_the_commit_before(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD~1")
    assert find_base(repository) == first, "there is no origin"
    git(repository, "update-ref", "refs/remotes/origin/main", first)
    git(repository, "commit", "-q", "--allow-empty", "-m", "third")
    assert find_base(repository) == first
    git(repository, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert find_base(repository) == git(repository, "rev-parse", "HEAD~1")


def test_as_many_rounds_as_a_verdict_takes() -> None:
    assert ROUNDS >= LEAST_BLOCKS


def test_a_first_commit_has_nothing_before_it(repository: Path) -> None:
    git(repository, "checkout", "-q", "--orphan", "alone")
    git(repository, "commit", "-q", "-m", "alone")
    with pytest.raises(NoComparisonError, match="HEAD~1"):
        find_base(repository)


def test_samples_are_milliseconds_and_not_too_many() -> None:
    text = json.dumps({"benchmarks": [{"name": "a", "stats": {"data": [i / 1e6 for i in range(100_001)]}}]})
    values = read_samples(text)["a"]
    assert len(values) <= MAX_SAMPLES
    assert (values[0], values[-1]) == (0.0, pytest.approx(100.0, rel=0.01))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_both_revisions_have_is_compared(repository: Path) -> None:
    (only,) = compare_with("HEAD~1", repository, rounds=1)
    assert only.what == "test_sum"
    assert only.b_ms > 5 * only.a_ms, "a hundred times as much to add"
    assert git(repository, "status", "--porcelain", "--untracked-files=no") == ""


def test_a_revision_that_is_not_there_or_has_no_benchmarks_is_said(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoComparisonError, match="cannot be read"):
        unpack(repository, "nowhere", tmp_path / "out")
    git(repository, "rm", "-rq", "benchmarks")
    git(repository, "commit", "-q", "-m", "gone")
    with pytest.raises(NoComparisonError, match="has no benchmarks/micro"):
        compare_with("HEAD", repository)
    assert main(["no-such-revision"]) == 0
    assert "micro benchmarks are not compared: revision no-such-revision" in capsys.readouterr().out

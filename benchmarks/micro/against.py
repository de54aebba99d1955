"""The micro benchmarks of this checkout beside those of an earlier revision, interleaved: information, never a test.

    python -m benchmarks.micro.against            # the merge base with origin/main, else the commit before this one
    python -m benchmarks.micro.against v0.1.0

Each side runs its own benchmarks on its own sources, base/head/head/base in fresh processes; what both have is compared with the
same statistics as `edgeward bench compare`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bar import bar
from benchmarks.comparison import Comparison, compare_blocks
from benchmarks.significance import DEFAULT_THRESHOLD, LEAST_BLOCKS, Blocks
from benchmarks.statistics import Values

ROOT: Final = Path(__file__).resolve().parents[2]
MICRO: Final = "benchmarks/micro"
ROUNDS: Final = LEAST_BLOCKS
# Of one benchmark in one process: with four processes a round some seconds for all of them.
MAX_TIME_S: Final = 0.1
RUN_TIMEOUT_S: Final = 120.0
USUAL_RUN_S: Final = 5.0
# A fast call is timed a hundred thousand times; so many of them, evenly spread, tell the quantiles as well.
MAX_SAMPLES: Final = 400

Samples = Mapping[str, Values]
"""Milliseconds by benchmark."""

Progress = Callable[[str, float], None]
"""Called with what runs now and the share of all that is done."""


class NoComparisonError(Exception):
    """There is nothing to compare with; the text says why."""


def find_base(root: Path) -> str:
    """The revision to compare HEAD of `root` with: the merge base with origin/main, or the commit before where that is HEAD."""
    head = _git(root, "rev-parse", "HEAD")
    try:
        base = _git(root, "merge-base", "HEAD", "origin/main")
    except NoComparisonError:
        base = head
    return base if base != head else _git(root, "rev-parse", "HEAD~1")


def compare_with(
    base: str, root: Path = ROOT, rounds: int = ROUNDS, progress: Progress = lambda what, share: None
) -> list[Comparison]:
    """Every micro benchmark that both have, A in revision `base`, B in the working tree.

    `NoComparisonError` when they have none in common, or one of them does not run.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-micro-") as scratch:
        before = Path(scratch) / "base"
        unpack(root, base, before)
        if not (before / MICRO).is_dir():
            raise NoComparisonError(f"revision {base} has no {MICRO}")
        home = Path(scratch) / "home"
        blocks: dict[str, tuple[list[Values], list[Values]]] = {}
        for number in range(rounds):
            measured = []
            for place, tree in enumerate((before, root, root, before)):
                progress(f"round {number + 1} of {rounds}", (number + place / 4) / rounds)
                measured.append(run(tree, home))
            for name in set.intersection(*(set(samples) for samples in measured)):
                of_base, of_head = blocks.setdefault(name, ([], []))
                of_base.append(np.concatenate([measured[0][name], measured[3][name]]))
                of_head.append(np.concatenate([measured[1][name], measured[2][name]]))
    if not blocks:
        raise NoComparisonError(f"no micro benchmark is in revision {base} and here")
    return [
        comparison
        for name, (of_base, of_head) in sorted(blocks.items())
        for comparison in compare_blocks(
            name, ("base", "head"), of_base, of_head, of=Blocks.ROUNDS, threshold=DEFAULT_THRESHOLD
        )
        if comparison.share == 0.5
    ]


def unpack(root: Path, revision: str, target: Path) -> None:
    """The files of `revision` below `target`; nothing of the repository at `root` changes."""
    done = subprocess.run(["git", "archive", revision], cwd=root, capture_output=True, check=False)
    if done.returncode:
        raise NoComparisonError(f"revision {revision} cannot be read: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")


def run(tree: Path, home: Path) -> Samples:
    """The micro benchmarks of `tree` in a fresh process; `NoComparisonError` when they do not run."""
    with tempfile.TemporaryDirectory(prefix="edgeward-micro-") as scratch:
        file = Path(scratch) / "told.json"
        command = [sys.executable, "-m", "pytest", MICRO, "-q", "-p", "no:cacheprovider", f"--benchmark-json={file}"]
        command += [f"--benchmark-max-time={MAX_TIME_S}", "--benchmark-min-rounds=20", "--benchmark-disable-gc"]
        # No plugin but the one that is needed: the others take longer to import than the benchmarks to run.
        command += [
            "-p",
            "pytest_benchmark.plugin",
            "--import-mode=importlib",
            "-o",
            "addopts=",
            "-o",
            "filterwarnings=",
        ]
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                # In a process of pytest-xdist's pytest-benchmark would measure nothing.
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")},
                    "PYTHONPATH": str(tree),
                    "EDGEWARD_HOME": str(home),
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
                capture_output=True,
                text=True,
                timeout=RUN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoComparisonError(f"the benchmarks did not end within {RUN_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            raise NoComparisonError(f"the benchmarks failed: {done.stdout[-2000:]}{done.stderr[-500:]}")
        return read_samples(file.read_text(encoding="utf-8"))


def read_samples(text: str) -> Samples:
    """What pytest-benchmark's JSON says of each benchmark, thinned to `MAX_SAMPLES`."""
    return {each["name"]: _thinned(each["stats"]["data"]) * 1000 for each in json.loads(text)["benchmarks"]}


def _thinned(seconds: Sequence[float]) -> Values:
    values = np.asarray(seconds, dtype=np.float64)
    return values[:: max(1, -(-len(values) // MAX_SAMPLES))]


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoComparisonError(f"git {' '.join(words)}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares and prints; exit code 0 whatever it finds, since a noisy machine must not stop anybody."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro.against", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("base", nargs="?", help="revision to compare with (the merge base, or the commit before)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of base/head/head/base ({ROUNDS})")
    chosen = parser.parse_args(arguments)
    try:
        base = chosen.base or find_base(ROOT)
        with bar(chosen.rounds * 4 * USUAL_RUN_S) as tell:
            comparisons = compare_with(base, rounds=chosen.rounds, progress=tell)
    except NoComparisonError as error:
        print(f"micro benchmarks are not compared: {error}")
        return 0
    from benchmarks.table import comparison_table
    from runtime.cli.console import standard

    standard().print(f"micro benchmarks: A is {base[:12]}, B is this checkout; information, not a test", markup=False)
    standard().print(comparison_table(comparisons, unit="µs"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

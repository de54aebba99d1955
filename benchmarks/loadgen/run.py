"""Runs scenarios by LoadGen, each in a process of its own, or by our own generator where LoadGen is not installed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, read_environment
from benchmarks.loadgen.ours import run_ours
from benchmarks.loadgen.plan import WORDING, Mode, Order, Rules
from benchmarks.loadgen.result import Result, accuracy_in, read_summary
from benchmarks.row import UNKNOWN
from benchmarks.run import file_name, with_start
from benchmarks.scenarios import Kind
from benchmarks.settings import ANYONE, Access, Setting
from benchmarks.targets import rows_of
from runtime import errors
from runtime.errors import EdgewardError, ExecutionError, WrongUseError

RESULTS_FILE = "loadgen.json"
SCHEMA_VERSION = 1
_BOOT = "import sys; sys.path.insert(0, {root!r}); from benchmarks.loadgen.sut import main; sys.exit(main())"
_POLL_S = 0.25
# Beside the measuring: starting Python, opening the model, LoadGen's own writing.
_OVERHEAD_S = 3.0

Progress = Callable[[str, float], None]
"""Called with what runs now and the share of all that is done."""


@dataclass(frozen=True, slots=True)
class LoadgenRun:
    """What was measured; `was_stopped` by Ctrl-C, which keeps it."""

    results: tuple[Result, ...]
    failed: tuple[str, ...]
    folder: Path
    was_stopped: bool
    environment: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The run in types that `json` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "results": [result.to_dict() for result in self.results],
            "failed": list(self.failed),
            "was_stopped": self.was_stopped,
            "environment": dict(self.environment),
        }


def is_installed() -> bool:
    """Whether the package mlcommons-loadgen is here."""
    return importlib.util.find_spec("mlperf_loadgen") is not None


def run_loadgen(
    settings: Sequence[Setting],
    kinds: Sequence[Kind],
    rules: Rules,
    folder: Path,
    *,
    accuracy: bool = True,
    progress: Progress | None = None,
    access: Access = ANYONE,
) -> LoadgenRun:
    """Every setting in every scenario; logs and `loadgen.json` in `folder`.

    A scenario that fails is named with its reason, and the others go on.
    """
    if folder.exists() and any(folder.iterdir()):
        raise WrongUseError(f"{folder} is not empty; name a folder that is new")
    folder.mkdir(parents=True, exist_ok=True)
    environment = read_environment()
    results: list[Result] = []
    failed: list[str] = []
    was_stopped = False
    pairs = [(setting, kind) for setting in settings for kind in kinds]
    try:
        for number, (setting, kind) in enumerate(pairs):

            def tell(share: float, number: int = number, setting: Setting = setting, kind: Kind = kind) -> None:
                if progress is not None:
                    progress(f"{setting}: {kind}", (number + min(share, 1.0)) / len(pairs))

            own = folder / f"{number:03d}-{file_name(setting, kind.value)}"
            own.mkdir()
            order = Order(setting, kind, Mode.PERFORMANCE, rules, own, access)
            try:
                if is_installed():
                    _run_one(order, results, accuracy=accuracy, tell=tell)
                else:
                    results.append(run_ours(order, environment, tell))
                    was_stopped = results[-1].was_stopped
            except EdgewardError as error:
                failed.append(f"{setting}: {kind}: {with_start(setting, error)}")
            if was_stopped:
                break
    except KeyboardInterrupt:
        was_stopped = True
    run = LoadgenRun(tuple(results), tuple(failed), folder, was_stopped, environment)
    text = json.dumps(run.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (folder / RESULTS_FILE).write_text(text, encoding="utf-8")
    return run


def _run_one(order: Order, results: list[Result], *, accuracy: bool, tell: Callable[[float], None]) -> None:
    """Appends the performance when it ends, and puts the accuracy into it later: what goes wrong there takes nothing away."""
    # The accuracy takes its start alone, the performance its duration too.
    part = _expected_s(order) / (_expected_s(order) + _OVERHEAD_S) if accuracy else 1.0
    done = start(order, lambda share: tell(part * min(share, 1.0)))
    results.append(
        Result(
            order.setting,
            order.kind,
            read_summary(order.folder),
            done["backend"] or done["description"]["platform"] or UNKNOWN,
            done["description"]["digests"].get("variant"),
            done["errors"],
            None,
            "stopped before its end" if accuracy else "not asked for",
            order.folder,
            WORDING,
        )
    )
    if accuracy:
        score, reason = _accuracy(order, lambda share: tell(part + (1 - part) * min(share, 1.0)))
        results[-1] = replace(results[-1], accuracy=score, no_accuracy=reason)


def _accuracy(order: Order, tell: Callable[[float], None]) -> tuple[float | None, str | None]:
    """The share of labelled samples that are answered right, or why it is not known."""
    folder = order.folder / "accuracy"
    folder.mkdir()
    try:
        start(replace(order, mode=Mode.ACCURACY, folder=folder), tell)
        labels = rows_of(order.setting, (), seed=1).labels
        assert labels is not None, "the process that just ended checked it"
        return accuracy_in(folder, labels), None
    except EdgewardError as error:
        return None, str(with_start(order.setting, error))


def _expected_s(order: Order) -> float:
    return _OVERHEAD_S + (order.rules.duration_s if order.mode is Mode.PERFORMANCE else 0.0)


def start(order: Order, tell: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Runs one order in a fresh process to its end; what it said. Errors have the classes that they have there."""
    expected_s = _expected_s(order)
    command = [sys.executable, "-P", "-c", _BOOT.format(root=str(ROOT))]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
    ):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=log, text=True)
        assert child.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(order.to_dict()) + "\n")
                child.stdin.close()
            started = time.monotonic()
            while child.poll() is None:
                if tell is not None:
                    tell((time.monotonic() - started) / expected_s)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL_S)
        finally:
            if child.poll() is None:  # Ctrl-C: LoadGen cannot be asked to stop
                child.kill()
                child.wait()
        said.seek(0)
        log.seek(0)
        lines = [line for line in said.read().splitlines() if line.startswith("{")]
        complaints = [line for line in log.read().splitlines() if line.strip()]
    if not lines:
        raise ExecutionError(
            f"LoadGen's process ended with exit code {child.returncode}: {' | '.join(complaints[-3:]) or 'it said nothing'}"
        )
    event: dict[str, Any] = json.loads(lines[-1])
    if event.pop("event") == "failed":
        cls: type[EdgewardError] = getattr(errors, event["error"], EdgewardError)
        raise cls(event["text"])
    return event

"""A run: every model × target × backend × scenario measured one after the other, each recording saved as it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.arrivals import Arrivals
from benchmarks.environment import read_environment
from benchmarks.measure import measure
from benchmarks.row import Row, row_of
from benchmarks.samples import SCHEMA_VERSION, Recording, load_folder
from benchmarks.scenarios import Scenario, Wishes, kind_of, plan
from benchmarks.settings import ADDRESS_OF, ALL, ANYONE, AUTO, Access, Setting, TargetName
from runtime import config
from runtime.client.failures import with_next_step
from runtime.errors import EdgewardError, MachineError, PeerUnreachableError, WrongUseError

INDEX_FILE = "run.json"
FOUND_FILE = "find-max.json"
# For the quick table: enough for p99, in flight what a small application has.
QUICK_REQUESTS = 700
QUICK_IN_FLIGHT = 8
QUICK_LOAD_S = 1.5


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement that a run makes."""

    setting: Setting
    scenario: Scenario

    def __str__(self) -> str:
        return f"{self.setting}: {self.scenario}"


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell that could not be measured, and why."""

    cell: Cell
    error: str


def failures_of(failed: Sequence[Failed]) -> tuple[str, ...]:
    """A sentence for each setting and reason: what keeps one scenario from being measured often keeps all of them."""
    scenarios: dict[tuple[str, str], list[str]] = {}
    for one in failed:
        scenarios.setdefault((str(one.cell.setting), one.error), []).append(str(one.cell.scenario))
    return tuple(f"{setting} ({', '.join(names)}): {error}" for (setting, error), names in scenarios.items())


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run measured; `was_stopped` when a person ended it early."""

    recordings: tuple[Recording, ...]
    failed: tuple[str, ...]
    """A sentence for each setting that could not be measured, with its scenarios."""
    folder: Path | None
    was_stopped: bool
    slo_ms: float | None = None
    """What was promised, for the goodput."""

    @property
    def is_valid(self) -> bool:
        """Whether every cell was measured as it was meant to be."""
        return bool(self.recordings) and not self.failed and all(recording.is_valid for recording in self.recordings)


Progress = Callable[[Cell, int, int, float], None]
"""Called with the cell being measured, its number from 0, how many there are, and the share of it that is done."""


def matrix(
    models: Sequence[str],
    targets: Sequence[str],
    scenarios: Sequence[str],
    backend: str,
    wishes: Wishes,
    loads: Sequence[Arrivals] = (),
) -> list[Cell]:
    """Every combination. `backend` "all" walks everything that runs here, in process; servers choose for themselves.

    An open loop is there once for each of `loads`, where there are any.
    """
    at_rates = [replace(wishes, arrivals=load) for load in loads] or [wishes]
    plans = [
        plan(name, one) for name in scenarios for one in (at_rates if kind_of(name).shape.is_open_loop else [wishes])
    ]
    cells = []
    for model in models:
        for target in targets:
            cells += [Cell(setting, scenario) for setting in settings(model, target, backend) for scenario in plans]
    return cells


def settings(model: str, target: str, backend: str) -> list[Setting]:
    """One setting for each backend that `backend` means on this target."""
    if backend != ALL:
        return [Setting(model, target, backend)]
    if not TargetName.parse(target).is_inproc:
        return [Setting(model, target)]
    from benchmarks.inproc import backends_of

    names = [AUTO, *backends_of(model)]
    return [Setting(model, target, name) for name in names]


def default_folder() -> Path:
    """`EDGEWARD_HOME/benchmarks/<UTC time>`."""
    return config.home() / "benchmarks" / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def run(
    cells: Sequence[Cell],
    folder: Path | None,
    progress: Progress | None = None,
    access: Access = ANYONE,
    slo_ms: float | None = None,
) -> RunResult:
    """Measures `cells` in order. With `folder` each recording is saved when it ends, and an index of all at the end.

    A cell that fails is kept with its reason, and the others go on. Ctrl-C ends the run and keeps what was measured.
    """
    prepare(folder)
    environment = read_environment()
    recordings: list[Recording] = []
    failed: list[Failed] = []
    was_stopped = False
    try:
        for number, cell in enumerate(cells):

            def tell(share: float, cell: Cell = cell, number: int = number) -> None:
                if progress is not None:
                    progress(cell, number, len(cells), share)

            tell(0.0)
            try:
                recording = measure(cell.setting, cell.scenario, environment, tell, access)
            except EdgewardError as error:
                failed.append(Failed(cell, str(with_start(cell.setting, error))))
                continue
            recordings.append(recording)
            if folder is not None:
                recording.save(folder / f"{number:03d}-{file_name(cell.setting, cell.scenario.kind)}.npz")
            if recording.header["was_stopped"]:
                was_stopped = True
                break
    except KeyboardInterrupt:
        was_stopped = True
    result = RunResult(tuple(recordings), failures_of(failed), folder, was_stopped, slo_ms)
    if folder is not None:
        (folder / INDEX_FILE).write_text(json.dumps(to_dict(result), indent=2, ensure_ascii=False), encoding="utf-8")
    return result


def with_start(setting: Setting, error: EdgewardError) -> EdgewardError:
    """The error; where a program of ours was meant by its name and does not answer, with the command that starts it."""
    target = setting.target
    if isinstance(error, PeerUnreachableError) and target in ADDRESS_OF:
        return with_next_step(error, f"start it with `edgeward {target} run {setting.model}`, or name its address")
    return error


def prepare(folder: Path | None) -> None:
    """Makes the folder of a run; `WrongUseError` when it holds another run's recordings or index."""
    if folder is not None:
        kept = [file.name for name in ("*.npz", INDEX_FILE, FOUND_FILE) for file in sorted(folder.glob(name))]
        if kept:
            raise WrongUseError(f"{folder} holds another run ({kept[0]}); name a folder that is new or empty")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"the folder of results {folder} cannot be made: {error.strerror}; name another one with --output"
            ) from error


def recordings_of(folder: Path) -> list[Recording]:
    """Every recording of a run or search, in the order measured; none where its index is all that it left.

    `WrongUseError` where there is no index either.
    """
    return [] if _index_in(folder) and not any(folder.glob("*.npz")) else load_folder(folder)


def report_of(recordings: Sequence[Recording], folder: Path, slo_ms: float | None = None) -> RunResult:
    """The run or search that left these recordings: what failed, left none, and stands in its index.

    `slo_ms` None: what was promised then.
    """
    index = _index_in(folder)
    was_stopped = index.get("was_stopped", False) or any(recording.header["was_stopped"] for recording in recordings)
    promised = index.get("slo_ms") if slo_ms is None else slo_ms
    return RunResult(tuple(recordings), tuple(index.get("failed", ())), folder, was_stopped, promised)


def _index_in(folder: Path) -> Mapping[str, Any]:
    """What a run or search wrote beside its recordings; empty where it wrote nothing, as one that was killed."""
    for name in (INDEX_FILE, FOUND_FILE):
        try:
            index: Mapping[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return index
    return {}


def to_dict(result: RunResult) -> dict[str, Any]:
    """The run in types that `json` writes: figures of every cell, failures, environment."""
    return {
        "schema_version": SCHEMA_VERSION,
        "folder": None if result.folder is None else str(result.folder),
        "is_valid": result.is_valid,
        "was_stopped": result.was_stopped,
        "slo_ms": result.slo_ms,
        "rows": [row_of(recording, result.slo_ms).to_dict() for recording in result.recordings],
        "failed": list(result.failed),
        "environment": result.recordings[0].header["environment"] if result.recordings else None,
    }


@dataclass(frozen=True, slots=True)
class QuickRow:
    """One line of the quick table."""

    label: str
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    qps: float
    """With `QUICK_IN_FLIGHT` requests in flight."""
    is_least: bool
    """Whether `qps` is as much as the generator could ask, so that the target may do more."""
    failed: int
    backend: str
    invalid_reason: str | None
    """Why the figures are not the target's own; None where they are."""


def run_quick(
    targets: Sequence[str],
    model: str = "digits",
    *,
    requests: int = QUICK_REQUESTS,
    access: Access = ANYONE,
    progress: Callable[[str], None] | None = None,
) -> list[QuickRow]:
    """p50, p95, p99 of one request at a time, and QPS with eight in flight, in a few seconds a target.

    Targets as for `bench run`, best with labels: "agent gRPC=grpc://127.0.0.1:8001". Errors of a target are raised.
    """
    environment = read_environment()
    rows = []
    for target in targets:
        name = TargetName.parse(target)
        if progress is not None:
            progress(name.label)
        setting = Setting(model, target)
        single = plan("single", Wishes(requests=requests, duration_s=30.0, warm_up_s=0.3))
        loaded = plan("offline", Wishes(rows=1, in_flight=QUICK_IN_FLIGHT, duration_s=QUICK_LOAD_S, warm_up_s=0.1))
        one = row_of(measure(setting, single, environment, None, access))
        many = row_of(measure(setting, loaded, environment, None, access))
        rows.append(_quick_row(name.label, one, many))
    return rows


def _quick_row(label: str, one: Row, many: Row) -> QuickRow:
    p50, p95, p99 = (one.summary.of(share).ms for share in (0.5, 0.95, 0.99))
    failed = one.summary.failed + many.summary.failed
    reason = one.invalid_reason or many.invalid_reason
    # Of what was answered only a generator without time is a reason; of what was not, nothing is known.
    is_least = many.invalid_reason is not None and many.summary.mean_ms is not None
    return QuickRow(label, p50, p95, p99, many.summary.achieved_qps, is_least, failed, one.backend, reason)


def file_name(setting: Setting, what: str) -> str:
    """How the file of a measurement is called, without number and ending."""
    words = (Path(setting.model).stem, TargetName.parse(setting.target).label, setting.backend, what)
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", word).strip("_") for word in words)

"""A bundle tried out in a process of its own, before an agent serves it: calibrated, and its answers held against its samples.

    python -m edge_agent.sync.check TAR MODEL OBJECTIVE THREADS

What crashes, hangs or eats the memory there costs that process alone; the calibration it made is kept, and used when it is served.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.sync.interruption import Interruption

# Calibration takes some seconds a model; large ones on slow devices take longer.
CHECK_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Chooses:
    """What the agent that will serve the bundle chooses by: what the check measures is recalled by who asks the same."""

    objective: str = ""
    """Empty: the manifest's."""
    threads: int | None = None
    """Of one call on the processor, at most; None: all that are allowed."""

    def words(self) -> tuple[str, str]:
        """For a command line."""
        return self.objective, "" if self.threads is None else str(self.threads)

    @classmethod
    def read(cls, objective: str, threads: str) -> Chooses:
        """What `words` wrote."""
        return cls(objective, int(threads) if threads else None)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check."""

    is_good: bool
    text: str
    """What it runs on, or what is wrong with it."""


def check_apart(
    tar: Path, model: str, chooses: Chooses, interruption: Interruption, timeout_s: float = CHECK_TIMEOUT_S
) -> Checked:
    """Whether the bundle is the model's and answers rightly on this machine. Blocking; `CancelledError` when interrupted."""
    command = [sys.executable, "-m", "edge_agent.sync.check", str(tar), model, *chooses.words()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            with interruption.cutting(running.kill):
                stdout, stderr = running.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return Checked(False, f"its check did not end within {timeout_s:.0f} s")
        finally:
            running.kill()
    try:
        said = json.loads(stdout.splitlines()[-1])
        return Checked(bool(said["is_good"]), str(said["text"]))
    except (ValueError, KeyError, IndexError, TypeError):
        last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Checked(False, f"its check ended with {running.returncode}: {last:.200}")


def check(tar: Path, model: str, chooses: Chooses) -> Checked:
    """The check itself, in this process."""
    from runtime import config
    from runtime.bundle.locate import open_bundles
    from runtime.engine.load import load
    from runtime.engine.settings import EngineSettings
    from runtime.engine.watch_settings import WatchSettings
    from runtime.errors import EdgewardError
    from runtime.selection.guard import check_answers
    from runtime.selection.settings import Objective, SelectionSettings

    settings = EngineSettings(
        selection=SelectionSettings(
            objective=Objective(chooses.objective) if chooses.objective else None,
            usual_objective=Objective.EFFICIENCY,
            threads=chooses.threads,
        ),
        watch=WatchSettings(0, 0),
    )
    try:
        bundle = open_bundles(tar, config.home() / "bundles")[-1]
        if bundle.name != model:
            return Checked(False, f"it is a bundle of {bundle.name!r}")
        bundle.verify()
        with load(tar, settings) as opened:
            samples = bundle.samples()
            if samples is None or bundle.manifest is None:
                return Checked(True, f"{opened.serving}; it has no samples to be checked on")
            outputs = opened.predict(samples.inputs)
            names = [spec.name for spec in opened.outputs]
            found = check_answers(bundle.manifest.task, names, outputs, samples.outputs, samples.labels)
            floor = bundle.manifest.targets.accuracy_floor
            if found.problem is not None:
                return Checked(False, found.problem)
            if floor is not None and found.accuracy is not None and found.accuracy < floor:
                return Checked(False, f"accuracy {found.accuracy:.1%} on its samples is below its floor {floor:.1%}")
            return Checked(True, opened.serving)
    except EdgewardError as error:
        return Checked(False, str(error))


if __name__ == "__main__":
    outcome = check(Path(sys.argv[1]), sys.argv[2], Chooses.read(*sys.argv[3:]))
    print(json.dumps({"is_good": outcome.is_good, "text": outcome.text}))

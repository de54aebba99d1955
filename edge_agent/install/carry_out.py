"""Carries out a plan: writes, runs, removes; what fails half-way is taken back."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_agent.install.plan import Command, InstallPlan, UninstallPlan
from runtime.errors import MachineError, WrongUseError

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S: Final = 60.0


def install(plan: InstallPlan, undo: UninstallPlan) -> None:
    """Writes the files and runs the commands; after a failure nothing of it is left, and `MachineError` says what failed."""
    _require(plan.commands)
    try:
        for file in plan.files:
            path = Path(file.path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
            except OSError as error:
                raise MachineError(
                    f"{path} cannot be written: {error.strerror}; run it as an administrator, or without --system"
                ) from error
        for command in plan.commands:
            _run(command)
    except MachineError:
        uninstall(undo)
        raise
    finally:
        for file in plan.files:
            if file.is_scratch:
                Path(file.path).unlink(missing_ok=True)


def uninstall(plan: UninstallPlan) -> list[Path]:
    """Runs, removes, runs; the files that were there. What fails is said, and the rest is done all the same."""
    removed = []
    for command in plan.before:
        _try(command)
    for path in map(Path, plan.remove):
        try:
            path.unlink()
            removed.append(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise MachineError(f"{path} cannot be removed: {error.strerror}; run it as an administrator") from error
    for command in plan.after:
        _try(command)
    return removed


def _try(command: Command) -> None:
    try:
        _run(command)
    except MachineError as error:
        log.warning("%s", error)


def _run(command: Command) -> None:
    try:
        done = subprocess.run(
            command.words,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if command.may_fail:
            return
        raise MachineError(f"{' '.join(command.words)} failed: {error}") from error
    if done.returncode and not command.may_fail:
        told = (done.stderr or done.stdout).strip()
        raise MachineError(f"{' '.join(command.words)} ended with {done.returncode}: {told or 'it said nothing'}")


def _require(commands: Sequence[Command]) -> None:
    for program in {command.words[0] for command in commands}:
        if shutil.which(program) is None:
            raise WrongUseError(
                f"{program} is not on PATH, so no service can be installed here; run the agent by hand: edgeward agent run"
            )

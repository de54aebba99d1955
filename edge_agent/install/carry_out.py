"""Carries out a plan: writes, runs, removes; after what fails half-way everything is as it was."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from edge_agent.install.earlier import Earlier, Look
from edge_agent.install.plan import Command, FileToWrite, InstallPlan, UninstallPlan
from runtime.errors import MachineError, WrongUseError

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S: Final = 60.0
# An agent that cannot start has ended by then: a missing module after one second, a port that is taken after three.
SETTLE_S: Final = 5.0
LOOK_EVERY_S: Final = 0.25
# One look may fall on a manager that is busy.
NOT_THERE: Final = 2


def look(at: Look) -> Earlier | None:
    """What is installed now; None where nothing is. `MachineError` where that cannot be read."""
    path = Path(at.file)
    try:
        content = path.read_bytes() if at.description is None else _printed(at.description)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"{path} cannot be read: {error.strerror}; run it as an administrator") from error
    if content is None:
        return None
    file = FileToWrite(at.file, content, is_scratch=at.description is not None)
    return Earlier(file, _says_yes(at.is_running), _says_yes(at.is_enabled))


def ask(command: Command) -> str:
    """What a command that changes nothing prints; `MachineError` where it fails, `WrongUseError` where it is not here."""
    _require([command])
    return _run(command)


def install(plan: InstallPlan, undo: UninstallPlan | InstallPlan, is_running: Command | None = None) -> None:
    """Writes the files and runs the commands; after a failure `undo` is done, and `MachineError` says what failed.

    `undo`: what removes all of it, or puts back what was there before. `is_running`: asked for some seconds whether what was
    started stays; managers that cannot tell (launchd, Task Scheduler) say yes.
    """
    _require(plan.commands)
    is_disturbed = False
    try:
        for file in plan.files:
            _write(file)
        for command in plan.commands:
            is_disturbed |= command.disturbs
            _run(command)
        if is_running is not None:
            _require_staying(is_running)
    except BaseException:
        if isinstance(undo, UninstallPlan):
            uninstall(undo)
        else:
            _restore(undo, is_disturbed=is_disturbed)
        raise
    finally:
        _remove_scratch(plan)


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


def remove(folders: Sequence[Path]) -> list[Path]:
    """Removes folders of state, and the one that they lie in where it is empty then; those that were there."""
    removed = [folder for folder in folders if folder.exists()]
    for folder in removed:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise MachineError(
                f"{error.filename} cannot be removed: {error.strerror}; remove {folder} by hand"
            ) from error
        with suppress(OSError):  # something else is in it
            folder.parent.rmdir()
    return removed


def _require_staying(is_running: Command) -> None:
    missed = 0
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        missed = 0 if _says_yes(is_running) else missed + 1
        if missed == NOT_THERE:
            raise MachineError(
                f"the service was started and did not stay ({' '.join(is_running.words)} says no); its log says why, and so does "
                "running the agent by hand: edgeward agent run"
            )
        time.sleep(LOOK_EVERY_S)


def _restore(plan: InstallPlan, *, is_disturbed: bool) -> None:
    try:
        for file in plan.files:
            _write(file)
        for command in plan.commands:
            if is_disturbed or not command.disturbs:
                _try(command)
        log.warning("what was installed before is there as it was")
    except MachineError as error:
        log.error("what was installed before could not be put back: %s", error)
    finally:
        _remove_scratch(plan)


def _write(file: FileToWrite) -> None:
    """In one step: a disk that is full leaves the file that was there."""
    path = Path(file.path).resolve()  # through a link, which stays one
    fresh = path.with_name(f".{path.name}.new")
    try:
        if path.is_file() and path.read_bytes() == file.content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fresh.write_bytes(file.content)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"{path} cannot be written: {error.strerror}; run it as an administrator, or without --system"
        ) from error


def _remove_scratch(plan: InstallPlan) -> None:
    for file in plan.files:
        if file.is_scratch:
            Path(file.path).unlink(missing_ok=True)


def _says_yes(command: Command) -> bool:
    return _printed(command) is not None


def _printed(command: Command) -> bytes | None:
    """What a command prints, in UTF-16 as the scheduler of Windows wants it back; None where it fails."""
    try:
        return _run(command).encode("utf-16")
    except MachineError:
        return None


def _try(command: Command) -> None:
    try:
        _run(command)
    except MachineError as error:
        log.warning("%s", error)


def _run(command: Command) -> str:
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
            return ""
        raise MachineError(f"{' '.join(command.words)} failed: {error}") from error
    if done.returncode and not command.may_fail:
        told = (done.stderr or done.stdout).strip()
        raise MachineError(f"{' '.join(command.words)} ended with {done.returncode}: {told or 'it said nothing'}")
    return done.stdout


def _require(commands: Sequence[Command]) -> None:
    for program in {command.words[0] for command in commands}:
        if shutil.which(program) is None:
            raise WrongUseError(
                f"{program} is not on PATH, so no service can be installed here; run the agent by hand: edgeward agent run"
            )

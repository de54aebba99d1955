"""Edgeward's programs as people run them: real processes on free loopback ports, for tests that need the whole."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import edgeward
from runtime.client.document import fetch_document
from runtime.selection.settings import Objective, SelectionSettings

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0


@dataclass
class Program:
    process: subprocess.Popen[str]
    grpc: str
    http: str
    models: list[dict[str, Any]]
    admin: str = ""
    """Of a gateway: where its admin API listens."""

    def status(self) -> dict[str, Any]:
        return fetch_document(self.http.removeprefix("http://"), "/edgeward/status")


def environment(home: Path) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "EDGEWARD_HOME": str(home), "PYTHONPATH": os.pathsep.join(paths)}


@cache
def calibrated_home() -> Path:
    """A home in which the digits were calibrated, for use in a process and for serving, once a process."""
    home = Path(tempfile.mkdtemp(prefix="edgeward-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for settings in (SelectionSettings(), SelectionSettings(usual_objective=Objective.EFFICIENCY)):
        edgeward.load("digits", edgeward.EngineSettings(settings, home=home)).close()
    return home


def calibrate(bundle: Path) -> None:
    """From now on homes of programs that serve have a choice for this bundle, too: quickly made, and in this process."""
    quick = SelectionSettings(budget_s=0.1, isolate=False, usual_objective=Objective.EFFICIENCY)
    edgeward.load(bundle, edgeward.EngineSettings(quick, home=calibrated_home())).close()


@contextmanager
def started(home: Path, *arguments: str, log: Path | None = None) -> Iterator[Program]:
    """An `edgeward` program that listens; its log, in its home if nothing else is said, is shown when it does not end well.

    A home without calibrations is given those made here: how programs calibrate is not what these tests are about, and it takes
    each of them as long as all the rest of its start.
    """
    if not (home / "calibrations").exists():
        shutil.copytree(calibrated_home() / "calibrations", home / "calibrations")
    log = log or home / f"{arguments[0]}.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeward", *arguments, "--json"],
            cwd=home,
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        told = json.loads(line)
        yield Program(process, told["grpc"], told["http"], told["models"], told.get("admin", ""))
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0, log.read_text()
            # What datasketches writes when sketches outlive the interpreter, as those of a thread that nobody ended.
            assert "nanobind: leaked" not in log.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

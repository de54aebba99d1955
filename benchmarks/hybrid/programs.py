"""Edgeward's programs as processes of the hybrid benchmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.environment import ROOT
from runtime.client.document import fetch_document
from runtime.config import home

STOP_S: Final = 15.0


@dataclass(frozen=True)
class Program:
    """One program that listens."""

    process: subprocess.Popen[str]
    grpc: str
    http: str

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        return fetch_document(self.http.removeprefix("http://"), "/edgeward/status", timeout_s=20.0)

    def stop(self) -> None:
        """Ends it, kindly if it can be."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(folder: Path, name: str, arguments: Sequence[str]) -> Program:
    """An `edgeward` program on free ports, once it listens; its log lies in `folder`, and so does its home.

    The home is its own, as an agent wants it, with what was measured on this machine before.
    """
    own = folder / f"{name}-home"
    known = home() / "calibrations"
    if known.exists():
        shutil.copytree(known, own / "calibrations", dirs_exist_ok=True)
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeward", *arguments, "--grpc-port", "0", "--http-port", "0", "--json"],
            cwd=ROOT,
            env={**os.environ, "EDGEWARD_HOME": str(own)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None, "it was asked for"
    line = process.stdout.readline()
    if not line:
        process.kill()
        raise RuntimeError(f"{name} did not start; see {folder / f'{name}.log'}")
    told = json.loads(line)
    return Program(process, told["grpc"], told["http"])

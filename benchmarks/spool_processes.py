"""The agent and the gateway of a spool trial, each in a process of its own that SIGKILL ends."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.spool_gateway import run as run_spool_gateway
from edge_agent.agent import run
from edge_agent.settings import AgentSettings

_CONTEXT = multiprocessing.get_context("forkserver")
# Loaded once: the spool's database library too, which an agent loads with its first spooled request.
LOADED = ("benchmarks.spool_processes", "edge_agent.spool.store", "cloud_gateway.results", "runtime.client.aio")
START_TIMEOUT_S = 60.0


def preload() -> None:
    """Has what every process needs loaded once; before the first of them."""
    _CONTEXT.set_forkserver_preload(list(LOADED))


class Process:
    """A process forked from one that has every library loaded already: a life costs what it does, not what it imports."""

    def __init__(self, main: Callable[..., None], *arguments: object) -> None:
        ours, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=main, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            if not ours.poll(START_TIMEOUT_S):
                raise RuntimeError(f"{main.__name__} does not listen after {START_TIMEOUT_S} s")
            self.told: dict[str, str] = ours.recv()
        except EOFError:
            raise RuntimeError(f"{main.__name__} ended before it listened") from None
        finally:
            ours.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._process.kill()
        self._process.join()
        self._process.close()


def run_agent(pipe: Any, home: str, gateway: str) -> None:
    """The agent without a model: everything it is asked goes to the gateway, which listens at that address."""
    os.environ["EDGEWARD_HOME"] = home
    _log_to(Path(home) / "agent.log")
    settings = AgentSettings(gateway=(gateway,), grpc_port=0, http_port=0)
    run(settings, lambda at, _: pipe.send({"grpc": str(at.grpc), "http": str(at.http)}))


def run_gateway(pipe: Any, home: str, port: int) -> None:
    """The gateway whose every execution gives another number."""
    os.environ["EDGEWARD_HOME"] = home
    _log_to(Path(home) / "gateway.log")
    run_spool_gateway(Path(home), port, lambda at: pipe.send({"grpc": str(at.grpc)}))


def _log_to(file: Path) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(handle, 2)

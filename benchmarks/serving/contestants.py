"""Who serves in a measurement: ours over each transport, the bare baselines, and whoever else is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.serving.exchange import (
    Exchange,
    Row,
    grpc_echo_exchange,
    grpc_exchange,
    rest_bare_exchange,
    rest_binary_exchange,
    rest_echo_exchange,
)
from benchmarks.serving.process import Launch
from runtime.serving.workers.supervisor import why_no_workers

NATIVE, GRPC, GRPCIO, REST = "edgeward native gRPC", "edgeward gRPC", "edgeward gRPC by grpcio", "edgeward REST"
GRPC_ECHO, ASGI_ECHO = "bare grpc.aio echo", "bare ASGI echo"
ASGI_MODEL = "bare ASGI with the model"
# A quantised variant is right within the bundle's floor, not to the last digit; another row's probabilities are off by nearly 1.
ANOTHER_VARIANTS_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server that is measured."""

    name: str
    exchange: Exchange
    launch: Callable[[int, int], Launch]
    """From a free HTTP and a free gRPC port."""
    start_timeout_s: float = 60.0
    is_restless: bool = False
    """Cannot be suspended while others are measured: started anew for each round."""


def ours(model: Path, row: Row, home: Path) -> list[Contestant]:
    """Our server of a bare file, on one thread, over each transport that is installed; `home` keeps what it measured of it."""
    return _over_each_transport(str(model), model.stem, row, home, ("--threads", "1"))


def as_calibrated(bundle: str, row: Row, home: Path) -> list[Contestant]:
    """The same of a bundle, with what was chosen for this machine (`calibrated.choose`, with the same `home`)."""
    found = _over_each_transport(bundle, bundle, row, home, ())
    return [
        replace(
            each, name=calibrated_name(each.name), exchange=replace(each.exchange, tolerance=ANOTHER_VARIANTS_TOLERANCE)
        )
        for each in found
    ]


def with_two_workers(model: Path, row: Row, home: Path) -> list[Contestant]:
    """Those of `ours` in two processes that share the ports; none where they cannot be shared."""
    if why_no_workers() is not None:
        return []
    found = _over_each_transport(str(model), model.stem, row, home, ("--threads", "1", "--workers", "2"))
    return [replace(each, name=two_workers_name(each.name)) for each in found if each.name != GRPCIO]


def two_workers_name(name: str) -> str:
    """Of one of ours, where two processes serve."""
    return f"{name}, two workers"


def calibrated_name(name: str) -> str:
    """Of one of ours, where it serves what was chosen."""
    return f"{name}, as calibrated"


def _over_each_transport(model: str, name: str, row: Row, home: Path, more_options: Sequence[str]) -> list[Contestant]:
    def launch(front: str) -> Callable[[int, int], Launch]:
        def at(http_port: int, grpc_port: int) -> Launch:
            ports = ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
            options = [*ports, "--grpc-front", front, *more_options, "--json"]
            command = [sys.executable, "-m", "edgeward", "serve", model, *options]
            return Launch(command, {**os.environ, "EDGEWARD_HOME": str(home)}, ROOT)

        return at

    found = [
        Contestant(GRPC, grpc_exchange(name, row), launch("asyncio")),
        Contestant(GRPCIO, grpc_exchange(name, row), launch("grpcio")),
        Contestant(REST, rest_binary_exchange(name, row), launch("asyncio")),
    ]
    if find_spec("pygrpc_native") is not None:
        found.insert(0, Contestant(NATIVE, grpc_exchange(name, row), launch("native")))
    return found


def baselines(model: Path, row: Row) -> list[Contestant]:
    """What the libraries under us cost by themselves: servers that send back what they got, and one that runs `model` bare."""
    return [
        Contestant(GRPC_ECHO, grpc_echo_exchange(row), lambda _, grpc: _own("echo_grpc", grpc)),
        Contestant(ASGI_ECHO, rest_echo_exchange(row), lambda http, _: _own("echo_asgi", http)),
        Contestant(ASGI_MODEL, rest_bare_exchange(row), lambda http, _: _own("model_asgi", model, http)),
    ]


def foreign(name: str, python: Path, script: Path, model: Path, exchange: Exchange, *, is_restless: bool) -> Contestant:
    """A server of other people: `script`, run by the interpreter of its own environment."""

    def at(http_port: int, grpc_port: int) -> Launch:
        command = [str(python), str(script), str(model), str(http_port), str(grpc_port)]
        # Programs that come with the environment are found before others of that name.
        path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
        # What it leaves in temporary folders goes with the run's own, where the model is.
        mine = {"PATH": path, "TMPDIR": str(model.parent)}
        return Launch(command, {**_without_python_path(os.environ), **mine}, script.parent)

    return Contestant(name, exchange, at, start_timeout_s=120.0, is_restless=is_restless)


def _own(module: str, *arguments: Path | int) -> Launch:
    return Launch([sys.executable, "-m", f"benchmarks.serving.{module}", *map(str, arguments)], os.environ, ROOT)


def _without_python_path(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def port_of(contestant: Contestant, ports: Sequence[int]) -> int:
    """The one of its two ports that is asked."""
    return ports[1] if contestant.exchange.is_grpc else ports[0]

"""Gateways for measuring releases: real processes that serve the bundle that ships, and a twin of it as the candidate."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.serving.process import Launch, ServerProcess, free_ports
from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from runtime.bundle.bundle import MANIFEST_FILE
from runtime.bundle.locate import open_bundles, shipped_bundles
from runtime.bundle.writing import pack
from runtime.client import connect
from runtime.tensors import Array

MODEL = "digits"
START_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """One gateway, and the way to it."""

    process: ServerProcess
    grpc: str
    admin: AdminClient

    def start_release(self, plan: dict[str, Any]) -> None:
        """Begins a release of version 1 to its twin."""
        self.admin.post("/admin/releases", {"plan": {"model": MODEL, "stable": 1, "candidate": 2, **plan}})

    def status(self) -> dict[str, Any]:
        """Of its release."""
        return self.admin.get(f"/admin/releases/{MODEL}")


def make_twin(folder: Path) -> Path:
    """A tar of the shipped bundle as version 2: what is measured is the release, not another model."""
    twin = folder / "twin"
    shutil.copytree(shipped_bundles()[MODEL], twin)
    manifest = json.loads((twin / MANIFEST_FILE).read_text(encoding="utf-8"))
    (twin / MANIFEST_FILE).write_text(json.dumps({**manifest, "version": 2}), encoding="utf-8")
    return pack(open_bundles(twin, folder / "unpacked")[0], folder / "twin.tar")


def one_row() -> Array:
    """An image that the model was held out from."""
    (bundle,) = open_bundles(MODEL, Path())
    samples = bundle.samples()
    assert samples is not None, "the digits bundle has samples"
    return next(iter(samples.inputs.values()))[:1]


@contextmanager
def gateways(
    folder: Path, names: list[str], database: str | None = None, module: str = "edgeward"
) -> Iterator[dict[str, RunningGateway]]:
    """A gateway for each name, each with a home of its own; what was measured of the model is measured once.

    `database`: the URL of one for all of them; the first one leads. `module`: what is run as the command line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    twin, image = make_twin(folder), one_row()
    first: Path | None = None
    with ExitStack() as stack:
        started = {}
        for name in names:
            home = folder / name
            if first is not None:
                shutil.copytree(first / "calibrations", home / "calibrations")
            http, grpc, admin = free_ports(3)
            ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--admin-port", str(admin)]
            command = [sys.executable, "-m", module, "gateway", "run", MODEL, *ports, "--json"]
            home.mkdir(exist_ok=True)
            shared = {} if database is None else {"EDGEWARD_DATABASE": database}
            # No calibration of its own in between: it takes as much as thousands of requests, in whoever's turn it falls.
            own = {"EDGEWARD_HOME": str(home), "EDGEWARD_RECALIBRATE_EVERY_S": "0"}
            launch = Launch(command, {**os.environ, **own, **shared}, ROOT)
            process = stack.enter_context(ServerProcess(launch, folder / f"{name}.log"))
            address = f"127.0.0.1:{grpc}"
            process.wait_until(partial(_ask, address, image), START_TIMEOUT_S)
            client = stack.enter_context(AdminClient(f"127.0.0.1:{admin}", read_admin_key(admin_key_file(home))))
            client.upload("/admin/registry", twin)
            started[name] = RunningGateway(process, address, client)
            first = first or home
        yield started


def _ask(address: str, image: Array) -> None:
    with connect(address) as client:
        client.predict(MODEL, image)

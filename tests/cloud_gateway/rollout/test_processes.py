"""A real gateway and 40 agents over HTTP: a promoted version reaches all of a healthy fleet, and few of one that it harms."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.rollout.gate import position
from runtime.bundle.bundle import read_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.bundle.writing import pack
from tests.cloud_gateway.release.test_processes import run
from tests.programs import PATIENCE_S, Program, calibrate, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PORTS = ("--grpc-port", "0", "--http-port", "0")
PLAN = {"model": "digits", "stable": 1, "candidate": 2, "strategy": "blue_green", "keep_warm_s": 0}
WAVES = {"waves": [1, 5, 25, 100]}


@dataclass
class Agent:
    """Syncs as an agent does, but that a version is kept or fails as told, at once."""

    name: str
    fails: bool
    serves: int = 1
    untold: list[dict[str, Any]] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)

    def sync(self, http: httpx.Client) -> None:
        if self.untold:
            told = {"device": self.name, "outcomes": self.untold}
            http.post("/edgeward/bundles/outcomes", json=told).raise_for_status()
            self.untold = []
        asked = http.get("/edgeward/bundles", params={"device": self.name, "model": "digits"})
        (version,) = (one["version"] for one in asked.json()["bundles"])
        if version == self.serves or version in self.rejected:
            return
        is_bad = version == 2 and self.fails
        outcome = "crashed" if is_bad else "kept"
        self.untold = [{"model": "digits", "version": version, "outcome": outcome, "reason": "of the test"}]
        if is_bad:
            self.rejected.add(version)
        else:
            self.serves = version


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The digits once more, as version 2, packed."""
    folder = tmp_path / "second"
    shutil.copytree(shipped_bundles()["digits"], folder)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 2}))
    calibrate(folder)
    return pack(read_bundle(folder), tmp_path / "second.tar")


@contextmanager
def gateway(home: Path) -> Iterator[tuple[Program, AdminClient]]:
    home.mkdir(exist_ok=True)
    with started(home, "gateway", "run", "digits", *PORTS) as program:
        key = read_admin_key(admin_key_file(home))
        with AdminClient(program.admin.removeprefix("http://"), key) as admin:
            yield program, admin


def sync_all(agents: list[Agent], http: str) -> None:
    # One for all, without the certificates that HTTPS would need: reading them takes 36 ms of a core, for each of 1000 calls.
    with httpx.Client(base_url=http, timeout=PATIENCE_S, verify=False) as client, ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(agent.sync, client) for agent in agents]:
            done.result()


def promote(admin: AdminClient, archive: Path, waves: dict[str, list[int]] = WAVES) -> None:
    admin.upload("/admin/registry", archive)
    admin.post("/admin/releases", {"plan": PLAN | waves})
    until(lambda: admin.get("/admin/releases/digits")["status"] == "settling")
    admin.post("/admin/releases/digits/promote", {"reason": "no traffic here, so a person says that it is over"})
    until(lambda: admin.get("/admin/releases/digits")["status"] == "promoted")


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def fleet(failing: int) -> list[Agent]:
    """40 agents, of which every fifth in the order of release 1 fails where `failing` is 8."""
    names = sorted((f"camera-{number}" for number in range(40)), key=lambda name: position(1, name))
    return [Agent(name, at % 5 == 0 and at < 5 * failing) for at, name in enumerate(names)]


def test_a_version_that_harms_one_device_in_five_is_halted_and_taken_back(tmp_path: Path, second: Path) -> None:
    agents = fleet(failing=8)
    with gateway(tmp_path / "home") as (program, admin):
        sync_all(agents, program.http)
        promote(admin, second)
        for _ in range(8):
            sync_all(agents, program.http)
        release = admin.get("/admin/releases/digits")
        waves = release["waves"]
        assert waves["status"] == "halted", waves
        assert "harms devices" in waves["reason"]
        assert sum(bool(agent.rejected) for agent in agents) <= 3
        assert waves["given"] <= 10, "no device beyond the third wave had it"
        assert {agent.serves for agent in agents} == {1}, "those that kept it were given version 1 back"
        assert release["status"] == "promoted", "requests here go on meeting it until a person says otherwise"
        events = [line["event"] for line in admin.get("/admin/audit")["lines"]]
        assert events[-1] == "waves_halted"
        assert admin.get("/admin/audit/check")["is_whole"]


def test_a_healthy_fleet_gets_it_wave_by_wave_though_the_gateway_is_killed(tmp_path: Path, second: Path) -> None:
    agents = fleet(failing=0)
    sizes = []
    with gateway(tmp_path / "home") as (program, admin):
        sync_all(agents, program.http)
        promote(admin, second)
        for _ in range(3):
            sync_all(agents, program.http)
            sizes.append(sum(agent.serves == 2 for agent in agents))
        assert sizes[0] == 1
        program.process.kill()
        program.process.wait(PATIENCE_S)
    with gateway(tmp_path / "home") as (program, admin):
        for _ in range(20):
            sync_all(agents, program.http)
            sizes.append(sum(agent.serves == 2 for agent in agents))
        waves = admin.get("/admin/releases/digits")["waves"]
        assert waves["status"] == "done"
        assert waves["outcomes"]["kept"] >= 38, "95 % of the fleet"
        assert sizes == sorted(sizes), "nobody lost it on the way"
        assert {1, 2, 10, 40} <= set(sizes)
        events = [line["event"] for line in admin.get("/admin/audit")["lines"]]
        assert [event for event in events if event.startswith("waves_")] == [
            "waves_begin",
            *["waves_advance"] * 3,
            "waves_done",
        ]
        assert httpx.get(f"{program.http}/edgeward/bundles", timeout=PATIENCE_S).json()["bundles"][0]["version"] == 2


def test_a_person_halts_the_waves_and_finishes_them_by_command(tmp_path: Path, second: Path) -> None:
    agents = fleet(failing=0)
    home = tmp_path / "home"
    with gateway(home) as (program, admin):
        port = ("--admin-port", program.admin.rpartition(":")[2])

        def waves(action: str, *more: str, code: int = 0) -> str:
            return run(home, "release", "waves", "digits", action, *more, *port, code=code)

        assert "goes to devices in waves" in waves("halt", code=1), "there are none yet"
        sync_all(agents, program.http)
        promote(admin, second)
        sync_all(agents, program.http)
        assert sum(agent.serves == 2 for agent in agents) == 1
        assert "expected one of halt, finish" in waves("stop", code=1)
        assert "halted by hand: two calls" in waves("halt", "--reason", "two calls")
        sync_all(agents, program.http)
        assert {agent.serves for agent in agents} == {1}
        assert "are halted already" in waves("halt", code=1)
        told = json.loads(waves("finish", "--reason", "it was the weather", "--json"))
        assert told["waves"]["status"] == "done"
        sync_all(agents, program.http)
        assert {agent.serves for agent in agents} == {2}
        events = [line["event"] for line in admin.get("/admin/audit")["lines"]]
        assert events[-3:] == ["waves_begin", "waves_halted", "waves_done"]

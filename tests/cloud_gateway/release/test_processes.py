"""Releases as people make them: a real gateway, commands, a candidate that is bad, one that is good, and a kill in the middle."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.client import connect
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, make_bundle, row
from tests.programs import PATIENCE_S, Program, environment, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PLAN = """
model = "small"
stable = {stable}
candidate = {candidate}
stages = {stages}
hold_s = 1
promote_by_hand = true
keep_warm_s = 600

[[guards]]
metric = "error_rate"
margin = 0.2
"""


@pytest.fixture
def bundles(tmp_path: Path) -> dict[int, Bundle]:
    return {
        1: make_bundle(tmp_path / "1", 1),
        2: make_bundle(tmp_path / "2", 2, is_other=True),
        3: make_bundle(tmp_path / "3", 3, table_size=2),
        4: make_bundle(tmp_path / "4", 4, classes=4),
    }


class Cli:
    def __init__(self, home: Path, gateway: Program) -> None:
        self.home = home
        self.admin_port = gateway.admin.rpartition(":")[2]

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "edgeward", *words, "--admin-port", self.admin_port],
            cwd=self.home,
            env=environment(self.home),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def json(self, *words: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.run(*words, "--json"))
        return told


@contextmanager
def traffic(gateway: Program, index: Callable[[int], int] = lambda _: 0) -> Iterator[dict[str, Any]]:
    """Callers that never stop; what they were told."""
    stop = threading.Event()
    told: dict[str, Any] = {"arms": {}, "errors": []}

    def call(who: int) -> None:
        number = who
        with connect(gateway.grpc) as client:
            while not stop.is_set():
                number += 10
                try:
                    reply = client.predict("small", row(index(number)), parameters={"routing_key": f"user-{number}"})
                except Exception as error:
                    told["errors"].append(error)
                    return
                arm = reply.parameters.get("release", "none")
                told["arms"][arm] = told["arms"].get(arm, 0) + 1

    threads = [threading.Thread(target=call, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def wait_for(cli: Cli, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    from cloud_gateway.admin.client import AdminClient

    with AdminClient(f"127.0.0.1:{cli.admin_port}", None) as client:
        for _ in range(int(2 * PATIENCE_S / 0.1)):
            told = client.get("/admin/releases/small")
            if is_so(told):
                return told
            threading.Event().wait(0.1)
    pytest.fail(f"it never came to that: {told}")


def test_a_bad_candidate_a_good_one_and_a_kill(tmp_path: Path, bundles: dict[int, Bundle]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    plan = home / "plan.toml"
    run = ("gateway", "run", str(bundles[1].root), "--grpc-port", "0", "--http-port", "0")
    with started(home, *run) as gateway:
        cli = Cli(home, gateway)
        for version in (2, 3, 4):
            assert f"version {version} is in the registry" in cli.run("gateway", "push", str(bundles[version].root))
        assert "versions never change" in cli.run("gateway", "push", str(other_two(tmp_path)), code=1)
        plan.write_text(PLAN.format(stable=1, candidate=4, stages=[50, 100]))
        assert "output 'scores' is FP32 [-1, 4], stable's is FP32 [-1, 3]" in cli.run("release", "start", "plan.toml", code=1)

        # One that fails for a fifth of the requests: found, taken back, and no caller saw it.
        plan.write_text(PLAN.format(stable=1, candidate=3, stages=[50, 100]))
        fails = PICK_FAILS_ON_SMALL_TABLES
        with traffic(gateway, lambda number: fails if number % 5 == 0 else 0) as told:
            assert cli.json("release", "start", "plan.toml")["share"] == 0.5
            ended = wait_for(cli, lambda told: not told["is_alive"])
        assert told["errors"] == []
        assert ended["status"] == "rolled_back"
        lines = cli.json("release", "audit", "--model", "small")["lines"]
        document = next(line["document"] for line in lines if line["event"] == "rollback")
        assert document["replaced_by_stable"] > 0
        assert "candidate" in document["harm"]

        # A good one; the gateway is killed in its second stage.
        plan.write_text(PLAN.format(stable=1, candidate=2, stages=[30, 60, 100]))
        with traffic(gateway) as told:
            cli.run("release", "start", "plan.toml")
            wait_for(cli, lambda told: told["share"] == 0.6)
            shown = cli.run("release", "status", "small")
            assert "version 1 → 2" in shown
            assert "error_rate" in shown
            cli.run("release", "pause", "small", "--reason", "to be killed")
            gateway.process.kill()
            gateway.process.wait()

    with started(home, *run) as gateway:
        cli = Cli(home, gateway)
        again = cli.json("release", "status", "small")
        assert (again["status"], again["share"], again["candidate"]) == ("paused", 0.6, 2)
        assert again["arms"]["candidate"]["requests"] > 0
        with traffic(gateway) as told:
            cli.run("release", "promote", "small")
            promoted = cli.json("release", "status", "small")
            assert (promoted["status"], promoted["share"]) == ("settling", 1.0)
        assert told["errors"] == []
        with connect(gateway.grpc) as client:
            replies = [client.predict("small", row()) for _ in range(20)]
        assert {reply.version for reply in replies} == {"2"}
        assert {int(np.argmax(reply.outputs["scores"])) for reply in replies} == {2}
        assert "none changed or missing" in cli.run("release", "audit", "--check")
        assert "rolled back" in cli.run("release", "rollback", "small", "--reason", "practice")
        with connect(gateway.grpc) as client:
            assert client.predict("small", row()).version == "1"
        assert "nothing to rollback" in cli.run("release", "rollback", "small", code=1)
        assert "practice" in cli.run("release", "audit")


def other_two(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "other2", 2, description="another").root

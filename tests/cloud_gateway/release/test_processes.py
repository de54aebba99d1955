"""Releases as people make them: a real gateway, commands, a candidate that is bad, one that is good, and a kill in the middle."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from runtime.bundle.bundle import Bundle
from runtime.bundle.writing import pack
from runtime.client import connect
from runtime.errors import ConflictError
from tests.cloud_gateway.bundles import PICK_FAILS_ON_SMALL_TABLES, make_bundle, row
from tests.programs import PATIENCE_S, Program, calibrate, environment, started

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
    made = {
        1: make_bundle(tmp_path / "1", 1),
        2: make_bundle(tmp_path / "2", 2, is_other=True),
        3: make_bundle(tmp_path / "3", 3, table_size=2),
    }
    for bundle in made.values():
        calibrate(bundle.root)
    return made


def run(home: Path, *words: str, code: int = 0) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeward", *words],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@contextmanager
def traffic(gateway: Program, index: Callable[[int], int] = lambda _: 0) -> Iterator[dict[str, Any]]:
    """A caller that never stops; what it was told."""
    stop = threading.Event()
    told: dict[str, Any] = {"arms": {}, "errors": []}

    def call() -> None:
        number = 0
        with connect(gateway.grpc) as client:
            while not stop.wait(0.001):
                number += 1
                try:
                    reply = client.predict("small", row(index(number)), parameters={"routing_key": f"user-{number}"})
                except Exception as error:
                    told["errors"].append(error)
                    return
                arm = reply.parameters.get("release", "none")
                told["arms"][arm] = told["arms"].get(arm, 0) + 1

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def wait_for(admin: AdminClient, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(int(3 * PATIENCE_S / 0.2)):
        told = admin.get("/admin/releases/small")
        if is_so(told):
            return told
        threading.Event().wait(0.2)
    pytest.fail(f"it never came to that: {told}")


def plan(candidate: int, stages: list[float]) -> dict[str, str]:
    return {"plan": PLAN.format(stable=1, candidate=candidate, stages=stages)}


def test_a_bad_candidate_a_good_one_and_a_kill(tmp_path: Path, bundles: dict[int, Bundle]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    words = ("gateway", "run", str(bundles[1].root), "--grpc-port", "0", "--http-port", "0")
    with started(home, *words) as gateway, admin_of(home, gateway) as admin:
        port = ("--admin-port", gateway.admin.rpartition(":")[2])
        assert "version 2 is in the registry" in run(home, "gateway", "push", str(bundles[2].root), *port)
        admin.upload("/admin/registry", pack(bundles[3], tmp_path / "packed.tar"))
        changed = make_bundle(tmp_path / "changed", 2, description="another")
        with pytest.raises(ConflictError, match="versions never change"):
            admin.upload("/admin/registry", pack(changed, tmp_path / "changed.tar"))
        assert len(admin.get("/admin/registry/small")["versions"]) == 2

        # One that fails for a fifth of the requests: found, taken back, and no caller saw it.
        fails = PICK_FAILS_ON_SMALL_TABLES
        with traffic(gateway, lambda number: fails if number % 5 == 0 else 0) as told:
            assert admin.post("/admin/releases", plan(3, [50, 100]))["share"] == 0.5
            ended = wait_for(admin, lambda told: not told["is_alive"])
        assert told["errors"] == []
        assert ended["status"] == "rolled_back"
        lines = admin.get("/admin/audit", {"model": "small"})["lines"]
        document = next(line["document"] for line in lines if line["event"] == "rollback")
        assert document["replaced_by_stable"] > 0
        assert document["bad_predictions"] > 0
        assert "bad predictions, at most" in document["harm"]

        # A good one; the gateway is killed in its second stage.
        (home / "plan.toml").write_text(plan(2, [30, 60, 100])["plan"])
        assert "running" in run(home, "release", "start", "plan.toml", *port)
        with traffic(gateway):
            wait_for(admin, lambda told: told["share"] == 0.6)
            admin.post("/admin/releases/small/pause", {"reason": "to be killed"})
            gateway.process.kill()
            gateway.process.wait()

    with started(home, *words) as gateway, admin_of(home, gateway) as admin:
        port = ("--admin-port", gateway.admin.rpartition(":")[2])
        again = admin.get("/admin/releases/small")
        assert (again["status"], again["share"], again["candidate"]) == ("paused", 0.6, 2)
        assert again["arms"]["candidate"]["requests"] > 0
        shown = run(home, "release", "status", "small", *port)
        assert "version 1 → 2" in shown
        assert "error_rate" in shown
        with traffic(gateway) as told:
            promoted = admin.post("/admin/releases/small/promote")
        assert (promoted["status"], promoted["share"]) == ("settling", 1.0)
        assert told["errors"] == []
        with connect(gateway.grpc) as client:
            replies = [client.predict("small", row()) for _ in range(20)]
            assert {reply.version for reply in replies} == {"2"}
            assert {int(np.argmax(reply.outputs["scores"])) for reply in replies} == {2}
            assert "rolled back" in run(home, "release", "rollback", "small", "--reason", "practice", *port)
            assert client.predict("small", row()).version == "1"
        with pytest.raises(ConflictError, match="is rolled back .*nothing to roll back"):
            admin.post("/admin/releases/small/rollback")
        assert "none changed or missing" in run(home, "release", "audit", "--check", *port)
        assert "practice" in admin.get("/admin/audit")["lines"][-1]["document"]["reason"]


def admin_of(home: Path, gateway: Program) -> AdminClient:
    return AdminClient(gateway.admin.removeprefix("http://"), read_admin_key(admin_key_file(home)))

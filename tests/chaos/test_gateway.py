"""A whole gateway in the middle of a release: killed at random, on a full disk, under a clock that jumps."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.admin.client import AdminClient
from runtime.bundle.bundle import Bundle
from runtime.bundle.writing import pack
from runtime.client import connect
from runtime.client.sync import Client
from runtime.errors import EdgewardError
from runtime.store import sqlite_url
from runtime.wire.values import InferenceRequest
from tests.chaos.test_full_disk import disk, fill
from tests.cloud_gateway.bundles import make_bundle, row
from tests.cloud_gateway.release.test_processes import admin_of
from tests.programs import PATIENCE_S, Program, calibrate, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
__all__ = ["disk"]

PLAN = """
model = "small"
stable = 1
candidate = 2
strategy = "blue_green"
stages = [50, 100]
keep_warm_s = 86400
promote_by_hand = true
[[guards]]
metric = "loss"
margin = 0.2
is_required = false
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """Stable, and an archive of the candidate."""
    folder = tmp_path_factory.mktemp("bundles")
    stable, candidate = make_bundle(folder / "1", 1), make_bundle(folder / "2", 2, is_other=True)
    for bundle in (stable, candidate):
        calibrate(bundle.root)
    return stable, pack(candidate, folder / "2.tar")


def words(bundle: Bundle, *more: str) -> tuple[str, ...]:
    return ("gateway", "run", str(bundle.root), "--grpc-port", "0", "--http-port", "0", *more)


def soon(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def versions(client: Client, count: int = 40) -> set[str]:
    asked = (client.predict("small", row(), timeout_s=PATIENCE_S) for _ in range(count))
    return {answer.version for answer in asked}


def pause_and_resume(admin: AdminClient) -> None:
    """Until what room SQLite's log has already is used up."""
    for _ in range(1000):
        for command in ("pause", "resume"):
            admin.post(f"/admin/releases/small/{command}", {"reason": "x" * 900})


class Ledger:
    """What gateways acknowledged, held against what the next one knows."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.said: list[str] = []
        """Reasons of commands that were acknowledged, each unlike any other."""
        self.labelled: list[str] = []
        """Ids of requests whose labels were taken."""
        self._number = 0

    def unique(self, what: str) -> str:
        self._number += 1
        return f"{what}-{self._number}-"

    def act(self, client: Client, admin: AdminClient) -> None:
        """One thing that somebody does; it is acknowledged or raises."""
        if self.random.random() < 0.6:
            name = self.unique("request")
            client.infer(InferenceRequest("small", row(), id=name))
            told = admin.post("/admin/feedback", {"labels": [{"model": "small", "request_id": name, "label": 0}]})
            if told["labels"][0]["taken"] == "accepted":  # refused: no release runs that would keep answers for labels
                self.labelled.append(name)
            return
        reason = self.unique("reason")
        document: dict[str, Any] = {"reason": reason}
        if (command := self.random.choice(["promote", "promote", "pause", "resume", "rollback"])) == "promote":
            document["to_percent"] = self.random.choice([5.0, 30.0, 70.0])
        try:
            admin.post(f"/admin/releases/small/{command}", document)
        except EdgewardError as error:
            if "is rolled back" in str(error) or "no release" in str(error):
                admin.post("/admin/releases", {"plan": PLAN})
            elif "paused" not in str(error) and "only a" not in str(error):
                raise
            return
        self.said.append(reason)

    def check(self, admin: AdminClient) -> None:
        """What was acknowledged is there, once, and the release stands as its newest line says."""
        assert admin.get("/admin/audit/check")["is_whole"]
        lines = admin.get("/admin/audit", {"limit": "1000"})["lines"]
        reasons = [line["document"].get("reason", "") for line in lines if line["event"] != "hold"]
        for reason in self.said:
            assert sum(reason in one for one in reasons) == 1, (reason, reasons)
        labels = [{"model": "small", "request_id": name, "label": 0} for name in self.labelled]
        if labels:
            told = admin.post("/admin/feedback", {"labels": labels})["labels"]
            assert {one["taken"] for one in told} == {"known"}
        moved = [line["document"] for line in lines if "share" in line["document"]]
        if moved:
            status = admin.get("/admin/releases/small")
            newest = moved[-1]
            assert (status["release"], status["status"], status["share"]) == (
                newest["release"],
                newest["status"],
                newest["share"],
            )


def test_a_gateway_that_is_killed_at_random_loses_nothing_that_it_acknowledged(
    tmp_path: Path, bundles: tuple[Bundle, Path]
) -> None:
    stable, candidate = bundles
    ledger, kills = Ledger(seed=1), 5
    for kill in range(kills + 1):
        with started(tmp_path, *words(stable)) as gateway, admin_of(tmp_path, gateway) as admin:
            if kill == 0:
                admin.upload("/admin/registry", candidate)
                admin.post("/admin/releases", {"plan": PLAN})
            with connect(gateway.grpc) as client:
                assert versions(client, 5) <= {"1", "2"}
                ledger.check(admin)
                if kill == kills:
                    break
                if kill % 2:  # else while the lease of the one before runs out, and only labels are taken
                    soon(lambda: admin.get("/admin/releases/small")["is_leading"], "nobody leads")
                timer = threading.Timer(ledger.random.uniform(0.0, 0.5), gateway.process.kill)
                timer.start()
                try:
                    with suppress(EdgewardError):
                        while gateway.process.poll() is None:
                            ledger.act(client, admin)
                finally:
                    timer.join()
                    gateway.process.wait(PATIENCE_S)
    assert ledger.labelled or ledger.said, "something was acknowledged"


def fills(folder: Path, gateway: Program) -> Iterator[None]:
    fill(folder / "ballast")
    yield
    for name in ("ballast", "one more"):
        (folder / name).unlink(missing_ok=True)


def limits(folder: Path, gateway: Program) -> Iterator[None]:
    """As the process sees it: no file of its grows any more."""
    import resource

    before = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs and prlimit are Linux's")
@pytest.mark.parametrize("is_real", [True, False], ids=["tmpfs", "rlimit"])
def test_on_a_full_disk_stable_answers_and_the_release_goes_on_after_it(
    tmp_path: Path, bundles: tuple[Bundle, Path], is_real: bool, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue("disk") if is_real else tmp_path
    stable, candidate = bundles
    config = tmp_path / "gateway.toml"
    config.write_text(f'database = "{sqlite_url(folder / "gateway.db")}"\n')
    filling = contextmanager(fills if is_real else limits)
    with started(tmp_path, *words(stable, "--config", str(config))) as gateway, admin_of(tmp_path, gateway) as admin:
        admin.upload("/admin/registry", candidate)
        admin.post("/admin/releases", {"plan": PLAN})
        with connect(gateway.grpc) as client:
            assert versions(client) == {"1", "2"}
            with filling(folder, gateway):
                with pytest.raises(EdgewardError, match="disk"):
                    pause_and_resume(admin)
                soon(lambda: versions(client) == {"1"}, "who cannot keep the books answers with stable")
                assert "stable answers every request" in admin.get("/admin/releases/small")["trouble"]
                with pytest.raises(EdgewardError, match="stable answers until the database takes writes"):
                    admin.post("/admin/releases/small/rollback", {"reason": "too early"})
            soon(lambda: versions(client) == {"1", "2"}, "the release goes on once it can")
            assert admin.post("/admin/releases/small/rollback", {"reason": "by hand"})["status"] == "rolled_back"
            assert versions(client) == {"1"}
        assert admin.get("/admin/audit/check")["is_whole"]
        last = [line for line in admin.get("/admin/audit", {"limit": "1000"})["lines"] if line["event"] == "rollback"]
        assert "by hand" in last[-1]["document"]["reason"]
        admin.post("/admin/releases", {"plan": PLAN})


# What every Python program runs first: the time of day is that of this machine and what a file says.
JUMPING = """
import time
from pathlib import Path

_real, _real_ns, _file = time.time, time.time_ns, Path({file!r})

def _by():
    try:
        return int(_file.read_text() or 0)
    except (OSError, ValueError):
        return 0

time.time = lambda: _real() + _by()
time.time_ns = lambda: _real_ns() + _by() * 10**9
"""


def test_a_clock_that_jumps_days_moves_no_release_and_breaks_no_log(
    tmp_path: Path, bundles: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stable, candidate = bundles
    (tmp_path / "site").mkdir()
    offset = tmp_path / "offset"
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMPING.format(file=str(offset)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with started(tmp_path, *words(stable)) as gateway, admin_of(tmp_path, gateway) as admin:
        admin.upload("/admin/registry", candidate)
        admin.post(
            "/admin/releases", {"plan": PLAN.replace("keep_warm_s = 86400", "keep_warm_s = 3600\nhold_s = 3600")}
        )
        began = time.monotonic()
        stamps = []
        with connect(gateway.grpc) as client:
            for days in (1, -3, 400, 0):
                offset.write_text(str(days * 86_400))
                time.sleep(0.5)  # some ticks and a beat under the new time
                reason = f"day {days}"
                admin.post("/admin/releases/small/pause", {"reason": reason})
                status = admin.post("/admin/releases/small/resume", {"reason": reason})
                assert (status["status"], status["share"]) == ("running", 0.5)
                assert status["in_stage_s"] <= time.monotonic() - began + 1.0
                assert status["is_leading"]
                assert status["trouble"] is None
                assert versions(client) == {"1", "2"}
                lines = admin.get("/admin/audit", {"model": "small", "limit": "1000"})["lines"]
                stamps.append(lines[-1]["unix_ms"] - time.time() * 1e3)
        assert stamps == pytest.approx([days * 86_400e3 for days in (1, -3, 400, 0)], abs=60e3), "it did jump"
        assert admin.get("/admin/audit/check")["is_whole"]
    with started(tmp_path, *words(stable)) as gateway, admin_of(tmp_path, gateway) as admin:
        again = admin.get("/admin/releases/small")
        assert (again["status"], again["share"]) == ("running", 0.5)
        assert again["release"] == 1

"""The live status: it ends with the release, and a gateway that comes back is found again."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from cloud_gateway.release.watching import watched
from runtime.bundle.writing import pack
from runtime.errors import ModelNotFoundError, PeerUnreachableError
from tests.cloud_gateway.bundles import make_bundle
from tests.cloud_gateway.release.test_processes import admin_of, plan
from tests.ports import free_port
from tests.programs import PATIENCE_S, calibrate, environment, started


def test_while_nobody_answers_the_last_status_stays_and_says_so() -> None:
    running, ended = {"is_alive": True, "share": 0.1}, {"is_alive": False, "share": 0.0}
    replies: Iterator[Any] = iter([running, PeerUnreachableError("refused"), running, ended])

    def ask() -> dict[str, Any]:
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return dict(reply)

    first, second, away, back, last = watched(running, ask, lambda _: None)
    assert first == second == back == running
    assert last == ended
    assert away["share"] == 0.1
    assert away["trouble"].startswith("the gateway does not answer (refused)")


def test_what_a_gateway_answers_is_not_taken_for_its_absence() -> None:
    def ask() -> dict[str, Any]:
        raise ModelNotFoundError("no release here")

    with pytest.raises(ModelNotFoundError):
        list(watched({"is_alive": True}, ask, lambda _: None))


class Watching:
    """The command at work, as in a terminal, and what it has shown by now."""

    def __init__(self, home: Path, admin_port: str) -> None:
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgeward", "release", "status", "small", "--watch", "--admin-port", admin_port],
            cwd=home,
            env={**environment(home), "COLUMNS": "400", "FORCE_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            while chunk := os.read(stream.fileno(), 65536):
                self.shown += chunk.decode()

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_live_status_goes_on_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bundles = {1: make_bundle(tmp_path / "1", 1), 2: make_bundle(tmp_path / "2", 2)}
    for bundle in bundles.values():
        calibrate(bundle.root)
    port = str(free_port())
    words = ("gateway", "run", str(bundles[1].root), "--grpc-port", "0", "--http-port", "0", "--admin-port", port)
    with started(home, *words) as gateway, admin_of(home, gateway) as admin:
        admin.upload("/admin/registry", pack(bundles[2], tmp_path / "packed.tar"))
        admin.post("/admin/releases", plan(2, [50, 100]))
        with Watching(home, port) as watching:
            watching.wait_for("candidate gets 50 % of the traffic")
            gateway.process.kill()
            gateway.process.wait()
            watching.wait_for("the gateway does not answer")
            with started(home, *words) as again, admin_of(home, again) as admin_again:
                admin_again.post("/admin/releases/small/abort", {"reason": "seen enough"})
                watching.wait_for("aborted by hand: seen enough")
                assert watching.process.wait(PATIENCE_S) == 0, watching.shown

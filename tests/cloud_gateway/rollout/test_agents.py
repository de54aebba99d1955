"""Waves and real agents: what a device's own trial finds decides whether the next device gets the version."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.rollout.gate import position
from runtime.client import connect
from runtime.client.document import exchange_document
from tests.cloud_gateway.rollout.test_processes import gateway, promote, second
from tests.programs import PATIENCE_S, Program, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
__all__ = ["second"]  # the fixture

WAVES = {"waves": [50, 100]}
# In the order in which the first release reaches them.
FIRST, LAST = sorted(("camera-1", "camera-2"), key=lambda name: position(1, name))


class Device:
    """A home of its own, and an agent that runs there and is told to sync, as `agent sync --once` does."""

    def __init__(self, root: Path, name: str, gateway_http: str, trial_s: float) -> None:
        self.home = root / name
        self.home.mkdir()
        (self.home / "agent.toml").write_text(
            f'models = ["digits"]\ndevice_name = "{name}"\nsync_trial_s = {trial_s}\n'
            f'sync_from = "{gateway_http.removeprefix("http://")}"\nsync_models = ["digits"]\n'
        )

    def agent(self) -> AbstractContextManager[Program]:
        return started(self.home, "agent", "run", "--grpc-port", "0", "--http-port", "0", "--config", "agent.toml")

    def sync(self, agent: Program) -> dict[str, Any]:
        told = exchange_document(agent.http.removeprefix("http://"), "POST", "/edgeward/sync", {}, timeout_s=120)
        assert told["last_error"] is None, told
        return told


def version(agent: Program) -> str:
    with connect(agent.grpc) as client:
        return client.predict("digits", np.zeros((1, 1, 8, 8), np.float32)).version


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_on_trial(agent: Program) -> bool:
    return bool(agent.status()["sync"]["models"]["digits"]["is_on_trial"])


def test_the_second_device_gets_it_once_the_first_has_kept_it(tmp_path: Path, second: Path) -> None:
    with gateway(tmp_path / "gateway") as (cloud, admin):
        first, last = (Device(tmp_path, name, cloud.http, 1.0) for name in (FIRST, LAST))
        with first.agent() as one, last.agent() as other:
            first.sync(one)
            last.sync(other)  # the gateway knows both
            promote(admin, second, WAVES)
            last.sync(other)
            first.sync(one)
            last.sync(other)
            assert (version(one), version(other)) == ("2", "1"), "the second waits for what the first tells"
            waves = admin.get("/admin/releases/digits")["waves"]
            assert (waves["wave"], waves["given"], waves["outcomes"]) == (1, 1, {})
            until(lambda: not is_on_trial(one))
            first.sync(one)
            assert admin.get("/admin/releases/digits")["waves"]["wave"] == 2
            last.sync(other)
            assert version(other) == "2"
            until(lambda: not is_on_trial(other))
            last.sync(other)
            waves = admin.get("/admin/releases/digits")["waves"]
            assert (waves["status"], waves["outcomes"]) == ("done", {"kept": 2})


def test_a_device_that_it_crashes_stops_the_wave_and_the_second_never_has_it(tmp_path: Path, second: Path) -> None:
    with gateway(tmp_path / "gateway") as (cloud, admin):
        first, last = (Device(tmp_path, name, cloud.http, 3600.0) for name in (FIRST, LAST))
        with last.agent() as other:
            last.sync(other)
            with first.agent() as one:
                first.sync(one)
                promote(admin, second, WAVES)
                first.sync(one)
                assert version(one) == "2"
                one.process.kill()
                one.process.wait(PATIENCE_S)
            with first.agent() as one:
                assert version(one) == "2", "one crash may be anything"
                one.process.kill()
                one.process.wait(PATIENCE_S)
            with first.agent() as one:
                assert version(one) == "1", "after the second it is taken back, whatever the gateway says"
                note = first.sync(one)["models"]["digits"]["note"]
                assert "rolled back from version 2" in note
                waves = admin.get("/admin/releases/digits")["waves"]
                assert (waves["status"], waves["outcomes"]) == ("halted", {"crashed": 1})
                assert "1 of 1 devices failed" in waves["reason"]
                last.sync(other)
                assert version(other) == "1"
                assert first.sync(one)["models"]["digits"]["version"] is None, "and it is not fetched again"
                assert version(one) == "1"

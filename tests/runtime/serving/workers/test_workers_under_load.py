"""Two workers under load: drained and restarted, one of them killed, and reloaded; what was accepted is answered."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from runtime.serving.workers.supervisor import why_no_workers
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient
from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.load import Load, operators_of, over_grpc, over_http, over_stream
from tests.runtime.serving.real import INPUTS, home_with_choices, put_model, simple_bytes
from tests.runtime.serving.threaded import PATIENCE_S
from tests.runtime.serving.workers.test_supervisor import workers_of

pytestmark = [
    pytest.mark.skipif(why_no_workers() is not None, reason=str(why_no_workers())),
    pytest.mark.slow,
    pytest.mark.timeout(240),
]
ROOT = Path(__file__).resolve().parents[4]
RESTARTS = 2
ANSWERS_EACH = 10


class Workers:
    """`edgeward serve --workers 2` of one model, on ports that stay the same when it is started again."""

    def __init__(self, root: Path, *more: str) -> None:
        self._root = root
        self._more = more
        self.ports = (0, 0)
        self.start()

    def start(self) -> None:
        options = ["--workers", "2", "--json", "--grpc-front", "asyncio", *self._more]
        options += ["--grpc-port", str(self.ports[0]), "--http-port", str(self.ports[1])]
        command = [sys.executable, str(ROOT / "edgeward.py"), "serve"]
        self.process = psutil.Popen(
            [*command, "--model-repository", str(self._root / "repository"), *options],
            env={**os.environ, "EDGEWARD_HOME": str(home_with_choices(self._root / "home"))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        told = json.loads(line)
        self.grpc, self.http = told["grpc"], told["http"].removeprefix("http://")
        self.ports = (int(self.grpc.rpartition(":")[2]), int(self.http.rpartition(":")[2]))
        self.children = self.workers()

    def workers(self) -> list[psutil.Process]:
        return workers_of(self.process)

    def stop(self) -> str:
        """Told to end; its last words, once it did as it should."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(2 * PATIENCE_S) == 0, self.process.communicate()[1]
        return str(self.process.communicate()[1])

    def kill(self) -> None:
        for each in (self.process, *self.children):
            if each.is_running():
                each.kill()
        self.process.communicate()


@contextmanager
def loads_on(server: Workers) -> Iterator[list[Load]]:
    """Two loads over gRPC, one over streams, two over HTTP on a connection for each request."""
    clients = [GrpcClient(f"127.0.0.1:{server.ports[0]}") for _ in range(3)]
    running = [Load(over_grpc(client)) for client in clients[:2]]
    running += [Load(over_stream(clients[2])), *(Load(over_http(server.ports[1])) for _ in range(2))]
    try:
        yield running
    finally:
        for load in running:
            load.stop()
        for client in clients:
            client.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    put_model(tmp_path / "repository", "simple", 1)
    made: list[Workers] = []

    def start(*more: str) -> Workers:
        made.append(Workers(tmp_path, *more))
        return made[-1]

    yield start
    for each in made:
        each.kill()


@pytest.mark.parametrize("front", at_hand())
def test_restarts_under_load_lose_nothing(server: Callable[..., Workers], front: str) -> None:
    workers = server("--grpc-front", front)
    with loads_on(workers) as loads:
        for restart in range(RESTARTS + 1):
            for load in loads:
                load.wait_for_answers(ANSWERS_EACH)
            if restart < RESTARTS:
                assert "unanswered" not in workers.stop()
                workers.start()
    for load in loads:
        assert set(load.counts) <= {"answered", "not accepted"}, load.counts
    print([dict(load.counts) for load in loads])
    workers.stop()


def test_what_a_worker_had_accepted_is_answered_after_the_end_was_asked_for(server: Callable[..., Workers]) -> None:
    workers = server()
    client = HttpClient(workers.http, binary=True)
    body, headers = client.encode(Call("simple", INPUTS))
    client.connection.putrequest("POST", "/v2/models/simple/infer")
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        client.connection.putheader(name, value)
    client.connection.endheaders()
    client.connection.send(body[:-10])
    assert is_ready(workers.http)
    workers.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + PATIENCE_S
    while is_ready(workers.http):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert workers.process.poll() is None, "it waits for the rest of the request"
    client.connection.send(body[-10:])
    response = client.connection.getresponse()
    assert response.status == 200
    assert operators_of(client.decode(response.headers, response.read())) == ("Add", "Sub")
    client.close()
    assert workers.process.wait(PATIENCE_S) == 0


def is_ready(address: str) -> bool:
    """Asked on a connection of its own: whichever worker takes it."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_a_killed_worker_is_replaced_and_takes_only_its_own_requests_with_it(server: Callable[..., Workers]) -> None:
    workers = server()
    before = {worker.pid for worker in workers.workers()}
    with loads_on(workers) as loads:
        for load in loads:
            load.wait_for_answers(ANSWERS_EACH)
        killed = workers.workers()[0]
        killed.kill()
        end = time.monotonic() + 2 * PATIENCE_S
        while len({worker.pid for worker in workers.workers()} - {killed.pid}) < 2:
            assert workers.process.poll() is None, workers.process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
        workers.children = workers.workers()
        for load in loads:
            load.wait_for_answers(3 * ANSWERS_EACH)
    assert len({worker.pid for worker in workers.workers()} & before) == 1, "the other one went on"
    for load in loads:
        lost = sum(count for told, count in load.counts.items() if told not in ("answered", "not accepted"))
        assert lost <= 1, f"more than what was under way: {load.counts}"
        assert "wrong" not in load.counts
    assert "ended with code -9; requests it had accepted are lost; starting it again" in workers.stop()


def test_a_reload_reaches_both_workers_and_refuses_nobody(server: Callable[..., Workers], tmp_path: Path) -> None:
    workers = server("--poll", "0.2")
    with loads_on(workers) as loads:
        for operators in (("Sub", "Add"), ("Add", "Sub"), ("Sub", "Add")):
            put_model(tmp_path / "repository", "simple", 1, content=simple_bytes(operators))
            end = time.monotonic() + 2 * PATIENCE_S
            # Each on a connection of its own; the chance that sixteen meet the same worker of two is 3 in 100,000.
            while {answering(workers.http) for _ in range(16)} != {operators}:
                assert time.monotonic() < end
            for load in loads:
                load.wait_for_answers(ANSWERS_EACH)
    for load in loads:
        assert set(load.counts) == {"answered"}, load.counts
    workers.stop()


def answering(address: str) -> tuple[str, str] | None:
    client = HttpClient(address, binary=True)
    told = client.send(Call("simple", INPUTS))
    client.close()
    return operators_of(told)

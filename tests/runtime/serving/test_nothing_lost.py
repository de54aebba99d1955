"""Ten restarts and twenty reloads under load: every request is answered rightly, or was refused before it was accepted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from protos import inference
from tests.ports import free_port
from tests.runtime.serving.clients import Call, GrpcClient, grpc_call
from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.load import Load, operators_of, over_grpc, over_http, over_stream
from tests.runtime.serving.real import INPUTS, home_with_choices, put_model, simple_bytes
from tests.runtime.serving.threaded import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
RESTARTS = 10
RELOADS_EACH = 2
ANSWERS_EACH = 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_restarts_and_twenty_reloads_lose_nothing(tmp_path: Path) -> None:
    put_model(tmp_path / "repository", "simple", 1)
    ports = (free_port(), free_port())
    fronts = at_hand()
    address = f"127.0.0.1:{ports[0]}"
    clients = [GrpcClient(address) for _ in range(3)]
    process = _start(tmp_path, ports, fronts[0])
    loads = [Load(over_grpc(client)) for client in clients[:2]]
    loads += [Load(over_stream(clients[2])), Load(over_http(ports[1]))]
    reloads = 0
    try:
        for restart in range(RESTARTS + 1):
            for load in loads:
                load.wait_for_answers(ANSWERS_EACH)
            if restart == RESTARTS:
                break
            before = [load.counts.copy() for load in loads]
            for _ in range(RELOADS_EACH):
                operators = ("Sub", "Add") if reloads % 2 == 0 else ("Add", "Sub")
                put_model(tmp_path / "repository", "simple", 1, content=simple_bytes(operators))
                request = inference.RepositoryModelLoadRequest(model_name="simple")
                grpc_call(clients[0].channel, "RepositoryModelLoad", request, timeout=2 * PATIENCE_S)
                reloads += 1
                told = clients[0].send(Call("simple", INPUTS))
                assert operators_of(told) == operators, "what answers now is what was put there"
            for load, then in zip(loads, before, strict=True):
                assert set(load.counts - then) <= {"answered"}, "a reload refuses nobody"
            process.send_signal(signal.SIGTERM)
            assert process.wait(2 * PATIENCE_S) == 0, process.communicate()[1]
            assert "unanswered" not in process.communicate()[1]
            process = _start(tmp_path, ports, fronts[restart % len(fronts)])
        for load in loads:
            load.stop()
    finally:
        for load in loads:
            load.stop()
        process.kill()
        process.communicate()
        for client in clients:
            client.close()
    assert reloads == RESTARTS * RELOADS_EACH
    for load in loads:
        assert set(load.counts) <= {"answered", "not accepted"}, load.counts
        assert load.counts["answered"] >= (RESTARTS + 1) * ANSWERS_EACH
    print([dict(load.counts) for load in loads])


def _start(root: Path, ports: tuple[int, int], front: str) -> subprocess.Popen[str]:
    options = ["--grpc-port", str(ports[0]), "--http-port", str(ports[1]), "--grpc-front", front, "--json"]
    program = subprocess.Popen(
        [sys.executable, str(ROOT / "edgeward.py"), "serve", "--model-repository", str(root / "repository"), *options],
        env={**os.environ, "EDGEWARD_HOME": str(home_with_choices(root / "home"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, program.communicate()[1]
    assert json.loads(line)["models"][0]["name"] == "simple"
    return program

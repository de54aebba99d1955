"""`edgeward serve` with a model repository, as a process: its folder served, watched, and asked by clients."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.serving.memory.system_memory import FOLDER
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient
from tests.runtime.serving.real import INPUTS, home_with_choices, put_model
from tests.runtime.serving.threaded import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_a_folder_is_served_and_followed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    put_model(repository, "simple", 1)
    options = ["--model-repository", str(repository), "--versions", "all", "--poll", "0.2", "--no-shared-memory"]
    ports = ["--grpc-port", "0", "--http-port", "0", "--json"]
    program = subprocess.Popen(
        [sys.executable, str(ROOT / "edgeward.py"), "serve", *options, *ports],
        env={**os.environ, "EDGEWARD_HOME": str(home_with_choices(tmp_path / "home"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        at = json.loads(program.stdout.readline())
        rpc, rest = GrpcClient(at["grpc"]), HttpClient(at["http"].removeprefix("http://"), binary=True)
        assert rpc.send(Call("simple", INPUTS)).version == "1"
        put_model(repository, "simple", 2)
        end = time.monotonic() + 2 * PATIENCE_S
        while rest.send(Call("simple", INPUTS)).version != "2":
            assert time.monotonic() < end, "the new version was not loaded"
        assert rpc.send(Call("simple", INPUTS, version="1")).status == "OK", "all versions are served"
        status, _, data = rest.request("GET", "/v2/systemsharedmemory/status")
        assert status == 501
        assert ("--no-shared-memory" in data.decode()) == FOLDER.is_dir(), (
            "elsewhere there is no shared memory to turn off"
        )
        status, _, data = rest.request(
            "POST", "/v2/repository/models/simple/load", b'{"parameters": {"file:3/model.onnx": "AAAA"}}'
        )
        assert status == 501
        assert "--allow-model-upload" in json.loads(data)["error"]
        rpc.close()
        rest.close()
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE_S) == 0
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no model is given"),
        (["digits", "--poll", "1"], "poll_s is set without model_repository"),
        (["digits", "--versions", "newest"], "version policy 'newest' is not understood"),
        (["--model-repository", "nowhere"], "model repository nowhere is no folder"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, options: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "edgeward.py"), "serve", *options],
        env={**os.environ, "EDGEWARD_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr

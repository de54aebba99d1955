"""Spool, jobs and sync in real processes: what unmodified clients see, kills in the middle, and a new version that arrives."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from benchmarks.spool_trial import Trial
from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.client.address import Protocol, parse_address
from runtime.client.connections import Connections
from runtime.client.document import exchange_document, fetch_document
from runtime.client.rest import RestClient
from runtime.errors import ConflictError, InvalidInputError
from runtime.wire.rest_body import Body
from tests.programs import PATIENCE_S, Program, calibrate, environment, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TRITON = """
import sys
import numpy as np
{imports}
with module.InferenceServerClient(sys.argv[1]) as client:
    tensor = module.InferInput("image", [1, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1, 8, 8), np.float32))
    result = client.infer("digits", [tensor], parameters={{"async": True, "idempotency_key": "triton-{name}"}})
    assert result.as_numpy("probabilities") is None
    parameters = result.get_response()
    print(parameters)
    for _ in range(1000):
        result = client.infer("digits", [tensor], parameters={{"async": True, "idempotency_key": "triton-{name}"}})
        if result.as_numpy("probabilities") is not None:
            break
    assert result.as_numpy("probabilities").shape == (1, 10)
"""


def agent(home: Path, *more: str) -> Any:
    return started(home, "agent", "run", "--grpc-port", "0", "--http-port", "0", *more)


def eventually(what: Any, expected: Any) -> None:
    for _ in range(int(PATIENCE_S / 0.1)):
        if what() == expected:
            return
        Event().wait(0.1)
    pytest.fail(f"never became {expected!r}, but {what()!r}")


def http(program: Program) -> str:
    return program.http.removeprefix("http://")


def edgeward(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward", *arguments]
    return subprocess.run(command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def test_a_spool_for_every_client(home: Path, digits: Bundle) -> None:
    samples = digits.samples()
    assert samples is not None
    images = samples.inputs["image"][:2]
    with ExitStack() as stack:
        edge = stack.enter_context(agent(home, "digits"))
        client = stack.enter_context(connect(edge.grpc))
        rest = RestClient(http(edge))
        stack.callback(rest.close)
        expected = client.predict("digits", images).outputs["probabilities"]
        for ours in (client, rest):
            spooled = ours.submit("digits", images, key=f"key-{type(ours).__name__}")
            eventually(lambda: ours.fetch(spooled) is not None, True)  # noqa: B023
            result = ours.fetch(spooled)
            assert result is not None
            np.testing.assert_array_equal(result.outputs["probabilities"], expected)
            assert result.parameters["served_by"] == "edge"
            with pytest.raises((ConflictError, InvalidInputError), match="was used for another request"):
                ours.submit("digits", images[:1], key=spooled.key)
        plain(edge, images)
        for name in ("grpc", "http"):
            pytest.importorskip(f"tritonclient.{name}")
            code = TRITON.format(imports=f"import tritonclient.{name} as module", name=name)
            address = edge.grpc if name == "grpc" else http(edge)
            done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            assert "spooled" in done.stdout
        np.save(home / "in.npy", images)
        words = ("predict", "digits", str(home / "in.npy"), "-o", str(home / "out.npy"), "--route", "auto")
        done = edgeward(home, *words, "--address", edge.grpc, "--json")
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.load(home / "out.npy"), expected)
        told = edge.status()
        assert (told["spool"]["depth"], told["spool"]["answered"]) == (0, 5)
        shown = edgeward(home, "agent", "status", "--http-port", edge.http.rpartition(":")[2])
        assert "0 requests wait" in shown.stdout


def plain(edge: Program, images: np.ndarray) -> None:
    """The routes for programs that want it plain."""
    connections = Connections(parse_address(http(edge), Protocol.HTTP), {"Idempotency-Key": "plain"})
    request = {
        "model_name": "digits",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [2, 1, 8, 8], "data": images.ravel().tolist()}],
    }
    reply = connections.exchange("POST", "/edgeward/spool", Body((json.dumps(request).encode(),)), 10)
    assert (reply.status, json.loads(reply.body)) == (202, {"key": "plain", "state": "waiting"})
    assert reply.headers["location"] == "/edgeward/spool/plain"
    eventually(lambda: connections.exchange("GET", "/edgeward/spool/plain", None, 10).status, 200)
    result = json.loads(connections.exchange("GET", "/edgeward/spool/plain", None, 10).body)
    assert result["outputs"][0]["shape"] == [2, 10]
    assert connections.exchange("GET", "/edgeward/spool/nobody", None, 10).status == 404
    connections.close()


def test_nothing_acknowledged_is_lost_when_agent_and_gateway_are_killed(tmp_path: Path) -> None:
    deduplicated = 0
    # Whether the gateway had kept an answer before it was cut, the moment of the kill decides: of six, one run in some has none.
    for seed in (1, 2, 3):
        (folder := tmp_path / str(seed)).mkdir()
        tally = Trial(folder, seed).run(6)
        assert tally.kills == 6
        assert tally.gateway_kills >= 2, "one of them an outage"
        assert tally.acknowledged >= 4
        assert tally.cut_answers >= 1
        assert (tally.lost, tally.different_results, tally.wrong_answers) == (0, 0, 0)
        assert tally.answered == tally.acknowledged
        if deduplicated := tally.deduplicated:
            break
    assert deduplicated >= 1, "what was cut was kept, and is answered from there"


def test_a_submitted_job_goes_on_after_a_kill(home: Path, digits: Bundle) -> None:
    samples = digits.samples()
    assert samples is not None
    data = home / "data"
    data.mkdir()
    # Seconds of work: it must still be under way when the kill comes.
    np.save(data / "in.npy", np.tile(samples.inputs["image"], (300, 1, 1, 1)))
    config = home / "agent.toml"
    config.write_text(f'models = ["digits"]\njob_folders = ["{data}"]\n')
    with agent(home, "--config", str(config)) as edge:
        port = edge.http.rpartition(":")[2]
        words = ("agent", "submit", "digits", str(data / "in.npy"), "-o", str(data / "out.npy"), "--route", "edge")
        outside = edgeward(home, *words[:5], str(home / "out.npy"), "--http-port", port)
        assert (outside.returncode, "outside the folders" in outside.stderr) == (1, True)
        done = edgeward(home, *words, "--http-port", port, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] == "queued"
        eventually((data / ".out.npy.edgeward" / "state.json").exists, True)
        edge.process.send_signal(signal.SIGKILL)
        edge.process.wait()
    assert not (data / "out.npy").exists()
    with agent(home, "--config", str(config)) as edge:
        eventually(lambda: fetch_document(http(edge), "/edgeward/jobs/1")["state"], "done")
        shown = edgeward(home, "agent", "jobs", "--http-port", edge.http.rpartition(":")[2])
        assert "done" in shown.stdout
    out = np.load(data / "out.npy")
    assert out.shape == (135_000, 10)
    np.testing.assert_allclose(out[:450], samples.outputs["probabilities"], atol=0.2)
    np.testing.assert_allclose(out[-450:], out[:450], atol=1e-5)


def test_a_new_version_arrives_and_stays(home: Path, digits: Bundle) -> None:
    newer = home / "newer" / "digits"
    shutil.copytree(digits.root, newer)
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    calibrate(newer)
    key = home / "key"
    key.write_text("a-key-of-our-own-0123456789\n")
    run = ("gateway", "run", str(newer), "--grpc-port", "0", "--http-port", "0", "--api-key-file", str(key))
    with started(home, *run) as cloud:
        config = home / "agent.toml"
        config.write_text(
            f'models = ["digits"]\ngateway = "{cloud.grpc}"\ngateway_api_key_file = "{key}"\n'
            f'sync_from = "{http(cloud)}"\nsync_models = ["digits"]\n'
        )
        with agent(home, "--config", str(config)) as edge:
            assert [model["version"] for model in edge.models] == [1]
            port = edge.http.rpartition(":")[2]
            done = edgeward(home, "agent", "sync", "--once", "--http-port", port, "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            told = json.loads(done.stdout)["models"]["digits"]
            assert (told["version"], told["is_on_trial"]) == (2, True)
            with connect(edge.grpc) as client:
                assert client.predict("digits", np.zeros((1, 1, 8, 8), np.float32)).version == "2"
            assert edge.status()["sync"]["models"]["digits"]["version"] == 2
        with agent(home, "--config", str(config)) as edge:
            assert edge.status()["models"][0]["version"] == 2
            assert exchange_document(http(edge), "POST", "/edgeward/sync", {}, timeout_s=60)["last_error"] is None
    refused = edgeward(home, "agent", "sync", "--once", "--from", http(cloud), "--model", "digits", "--http-port", "1")
    assert refused.returncode == 1
    assert "is unreachable" in refused.stdout

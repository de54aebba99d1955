"""Agent and gateway as people run them: two processes on free ports, a drill, a killed gateway, and one that comes back."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

import edgeward
from runtime.bundle.bundle import Bundle
from runtime.client import connect
from runtime.client.rest import RestClient
from runtime.client.sync import Client
from runtime.wire.values import InferenceResponse
from tests.programs import PATIENCE_S, Program, environment, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def gateway(home: Path, port: int = 0) -> Any:
    return started(home, "gateway", "run", "digits", "--grpc-port", str(port), "--http-port", "0")


def agent(home: Path, gateway: Program, *more: str) -> Any:
    return started(
        home, "agent", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--gateway", gateway.grpc, *more
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def image(digits: Bundle) -> np.ndarray:
    assert digits.manifest is not None
    spec = digits.manifest.inputs[0].spec
    return np.zeros([max(size, 1) for size in spec.shape], spec.dtype)


def answer(client: Client, image: np.ndarray, **options: str) -> InferenceResponse:
    return client.predict("digits", image, timeout_s=10.0, **options)


def who(response: InferenceResponse) -> object:
    return response.parameters["served_by"]


def eventually(agent: Program, name: str, value: object) -> None:
    """Waits until the agent's status says so of its gateway."""
    for _ in range(int(PATIENCE_S / 0.1)):
        if agent.status()["gateways"][0][name] == value:
            return
        Event().wait(0.1)
    pytest.fail(f"gateways[0].{name} never became {value!r}; status: {agent.status()}")


def test_drill_outage_and_recovery(home: Path, image: np.ndarray) -> None:
    drill = home / "drill"
    with ExitStack() as stack:
        cloud = stack.enter_context(gateway(home))
        edge = stack.enter_context(agent(home, cloud, "--drill-file", str(drill)))
        client = stack.enter_context(connect(edge.grpc))

        first = answer(client, image)
        assert who(first) == "edge"
        assert "reason" not in first.parameters
        assert first.parameters["backend"] == edge.models[0]["backend"]

        drill.write_text("practice for the demo")
        fallen_back = answer(client, image)
        assert who(fallen_back) == "cloud"
        assert fallen_back.parameters["reason"] == "edge failed: drill: practice for the demo; answered by the cloud"
        drill.unlink()
        assert who(answer(client, image)) == "edge"
        assert who(answer(client, image, route="cloud")) == "cloud"

        cloud.process.kill()
        cloud.process.wait()
        assert [who(answer(client, image)) for _ in range(20)] == ["edge"] * 20
        drill.write_text("both are down now")
        for _ in range(5):
            with pytest.raises(Exception, match="drill: both are down now.*cloud") as caught:
                answer(client, image)
            assert type(caught.value).__name__ == "PeerFailedError"  # the edge's ExecutionError, as its client sees it
        assert edge.status()["gateways"][0]["breaker"] != "closed"
        drill.unlink()
        assert who(answer(client, image)) == "edge"

        again = stack.enter_context(gateway(home, int(cloud.grpc.rpartition(":")[2])))
        assert again.grpc == cloud.grpc
        eventually(edge, "breaker", "closed")
        assert who(answer(client, image, route="cloud")) == "cloud"

        counts = edge.status()["requests"]
        assert counts == {
            "edge": {"first_choice": 23},
            "cloud": {"asked_for": 2, "edge_failed": 1},
            "failed": {"ExecutionError": 5},
        }


def test_the_same_answers_wherever_and_over_rest(home: Path, digits: Bundle) -> None:
    assert digits.manifest is not None
    spec = digits.manifest.inputs[0].spec
    images = np.random.default_rng(7).random([4, *spec.shape[1:]]).astype(spec.dtype)
    with gateway(home) as cloud, agent(home, cloud) as edge, connect(edge.grpc) as client:
        rest = RestClient(edge.http.removeprefix("http://"))
        try:
            answers = [
                client.predict("digits", images, route="edge"),
                client.predict("digits", images, route="cloud"),
                rest.predict("digits", images, route="cloud"),
            ]
        finally:
            rest.close()
    assert [who(one) for one in answers] == ["edge", "cloud", "cloud"]
    # One home, one calibration: both run the same variant.
    assert cloud.models == edge.models
    for one in answers[1:]:
        for name, value in one.outputs.items():
            np.testing.assert_array_equal(value, answers[0].outputs[name])


def test_a_key_lets_the_agent_in(home: Path, tmp_path: Path, image: np.ndarray) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-of-our-own-0123456789\n")
    wrong = tmp_path / "wrong"
    wrong.write_text("another-key-0123456789\n")
    with ExitStack() as stack:
        run = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--api-key-file", str(key))
        cloud = stack.enter_context(started(home, *run))
        good = stack.enter_context(agent(home, cloud, "--gateway-api-key-file", str(key)))
        bad = stack.enter_context(agent(tmp_path, cloud, "--gateway-api-key-file", str(wrong)))
        with connect(good.grpc) as client:
            assert who(answer(client, image, route="cloud")) == "cloud"
        with connect(bad.grpc) as client:
            with pytest.raises(Exception, match="refuses this agent's API key"):
                answer(client, image, route="cloud")
            assert who(answer(client, image)) == "edge"


def test_status_for_people_and_programs(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(home))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        """The command in this process, which has imported everything."""
        with pytest.raises(SystemExit) as ended:
            edgeward.main(arguments)
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), *capsys.readouterr())

    with gateway(home) as cloud, agent(home, cloud) as edge:
        for program, kind in ((edge, "agent"), (cloud, "gateway")):
            port = program.http.rpartition(":")[2]
            told = run(kind, "status", "--http-port", port, "--json")
            assert told.returncode == 0, told.stderr
            assert json.loads(told.stdout)["models"] == program.models
            shown = run(kind, "status", "--http-port", port)
            other = "gateway" if kind == "agent" else "agent"
            mistaken = run(other, "status", "--http-port", port)
            assert mistaken.returncode == 2
            assert f"is edgeward-{kind}, not edgeward-{other}" in " ".join(mistaken.stderr.split())
            assert shown.returncode == 0, shown.stderr
            assert program.models[0]["backend"] in shown.stdout
            if kind == "agent":
                assert f"{cloud.grpc} reachable; requests go there" in shown.stdout
    gone = run("agent", "status", "--http-port", port)
    assert gone.returncode == 1
    assert "is unreachable" in gone.stderr
    assert "Traceback" not in gone.stderr
    for wrong in (("agent", "run"), ("agent", "run", "digits", "--gateway", "nowhere"), ("gateway", "run")):
        command = [sys.executable, "-m", "edgeward", *wrong]
        failed = subprocess.run(command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=60)
        assert failed.returncode == 2, failed.stderr
        assert "Traceback" not in failed.stderr

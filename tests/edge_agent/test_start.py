"""What an agent does not load before it listens: every library there is time that nobody gets an answer in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import calibrated_home, environment

pytestmark = pytest.mark.slow

# An agent that says, in place of its addresses, what it has loaded, and ends.
AGENT = """
import json, os, signal, sys
import edgeward
from runtime.cli import program

def tell(*_, **__):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

program.announce = tell
edgeward.main(["agent", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--json"])
"""
NOT_YET = {
    "edge_agent.cloud",
    "edge_agent.decision_log",
    "edge_agent.jobs.board",
    "edge_agent.jobs.runner",
    "edge_agent.spool.store",
    "edge_agent.sync.download",
    "edge_agent.telemetry",
    "edge_agent.upstream",
    "jinja2",
    "opentelemetry",
    "prometheus_client",
    "psutil",
    "rich",
    "runtime.bundle.profile",
    "runtime.hardware.probing",
    "runtime.monitoring.monitor",
    "runtime.pages.report",
    "runtime.selection.measure",
    "runtime.selection.select",
    "runtime.serving.rest.openapi",
    "runtime.store",
    "sqlalchemy",
}


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has a word for a boot; elsewhere every load probes the machine"
)
def test_an_agent_that_knows_its_model_listens_without_what_it_needs_later(tmp_path: Path) -> None:
    said = []
    for _ in range(5):  # a file that appears meanwhile in a folder that modules come from calls for a close look
        done = subprocess.run(
            [sys.executable, "-c", AGENT],
            cwd=tmp_path,
            env=environment(calibrated_home()),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(sorted(NOT_YET & set(json.loads(done.stdout))))
        if not said[-1]:
            return
    pytest.fail(f"no start was without them: {said}")


@pytest.mark.parametrize("program", ["agent", "gateway"])
def test_asking_how_a_program_is_loads_no_server_and_no_engine(program: str, tmp_path: Path) -> None:
    asking = f"""
import atexit, json, sys
import edgeward
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
edgeward.main(["{program}", "status", "--http-port", "1"])
"""
    done = subprocess.run(
        [sys.executable, "-c", asking],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr, "nobody is there, and it says where it asked"
    heavy = {"grpc", "onnxruntime", "runtime.engine.engine", "runtime.serving.server", "sqlalchemy", "uvicorn"}
    assert not heavy & set(json.loads(done.stdout))

"""A real gateway with automation: requests become items, people answer over the command line, a kill loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.settings import GatewaySettings
from runtime.bundle.locate import open_bundles
from runtime.client import connect
from runtime.client.rest import RestClient
from runtime.wire.values import InferenceRequest
from tests.programs import PATIENCE_S, Program, environment, started

CONFIG = """
[[automation]]
model = "digits"
start_level = "shadow"
second_opinion_share = 1.0
"""


def review(home: Path, gateway: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    port = gateway.admin.rpartition(":")[2]
    command = [sys.executable, "-m", "edgeward", "review", *arguments, "--admin-port", port]
    return subprocess.run(
        command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=2 * PATIENCE_S
    )


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_items_survive_a_kill_and_are_answered_over_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    run = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--config", str(config))
    (bundle,) = open_bundles("digits", tmp_path / "unpacked")
    assert bundle.manifest is not None
    spec = bundle.manifest.inputs[0].spec
    shape = [1 if size < 0 else size for size in spec.shape]
    asked = InferenceRequest("digits", {spec.name: np.zeros(shape, np.float32)})
    with started(tmp_path, *run) as gateway:
        for client in (connect(gateway.grpc), RestClient(gateway.http)):
            with client:
                reply = client.infer(replace(asked, parameters={"segment": "night"}))
                assert reply.outputs == {}
                assert reply.parameters["decided_by"] == "human_pending"
                assert reply.parameters["review_id"]
        gateway.process.kill()
        gateway.process.wait(PATIENCE_S)
    with started(tmp_path, *run) as gateway:
        items = as_json(review(tmp_path, gateway, "list", "--json"))
        assert len(items) == 2
        assert items[0]["suggestion"] is None
        item = items[0]["id"]
        told = as_json(review(tmp_path, gateway, "answer", item, "3", "--reviewer", "ann", "--json"))
        assert told["item"]["opinions"] == 1
        again = review(tmp_path, gateway, "answer", item, "4", "--reviewer", "ann")
        assert again.returncode == 1
        assert "an answer stands once given" in again.stderr
        levels = as_json(review(tmp_path, gateway, "levels", "--json"))["standings"]
        assert [(one["segment"], one["level"]) for one in levels] == [("night", "shadow")]
        exported = tmp_path / "items.jsonl"
        assert review(tmp_path, gateway, "export", str(exported), "--model", "digits").returncode == 0
        task = json.loads(exported.read_text().splitlines()[0])
        task["annotations"] = [{"completed_by": 5, "result": [{"value": {"choices": ["3"]}}]}]
        exported.write_text(json.dumps(task) + "\n")
        assert as_json(review(tmp_path, gateway, "import", str(exported), "--json"))["taken"] == 1
        assert review(tmp_path, gateway, "move", "digits", "full", "--reason", "trusted").returncode == 0
        key = read_admin_key(admin_key_file(tmp_path))
        with AdminClient(gateway.admin.removeprefix("http://"), key) as admin, connect(gateway.grpc) as client:
            reply = client.infer(asked)
            assert reply.parameters["decided_by"] == "model"
            assert reply.outputs
            labels = [{"model": "digits", "request_id": name, "label": 3} for name in (items[1]["request_id"], "x")]
            told = admin.post("/admin/feedback", {"labels": labels})["labels"]
            assert [one["taken"] for one in told] == ["accepted", "refused"]
            assert admin.get("/admin/automation/log")["lines"][0]["event"] == "moved_by_hand"


def test_two_tables_for_one_model_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one"):
        GatewaySettings(automation=[{"model": "m"}, {"model": "m"}])  # type: ignore[arg-type]

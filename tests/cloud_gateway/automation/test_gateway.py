"""A real gateway with automation: requests become items, people answer over the command line, a kill loses nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import edgeward
from cloud_gateway.admin.client import AdminClient
from cloud_gateway.admin.key import admin_key_file, read_admin_key
from cloud_gateway.settings import GatewaySettings
from runtime.bundle.locate import open_bundles
from runtime.client import connect
from runtime.client.rest import RestClient
from runtime.errors import InvalidInputError
from runtime.wire.values import InferenceRequest
from tests.programs import PATIENCE_S, started

CONFIG = """
[[automation]]
model = "digits"
start_level = "shadow"
second_opinion_share = 1.0
"""


@dataclass
class Reviewer:
    """Runs `edgeward review ...` in this process, against one gateway."""

    capsys: pytest.CaptureFixture[str]
    admin: str

    def __call__(self, *arguments: str, expected: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            edgeward.main(["review", *arguments, "--admin-port", self.admin.rpartition(":")[2]])
        told = self.capsys.readouterr()
        assert (ended.value.code or 0) == expected, told.err
        return told.err if expected else told.out


@pytest.mark.slow
def test_items_survive_a_kill_and_are_answered_over_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
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
        review = Reviewer(capsys, gateway.admin)
        items = json.loads(review("list", "--json"))
        assert len(items) == 2
        assert items[0]["suggestion"] is None
        item = items[0]["id"]
        told = json.loads(review("answer", item, "3", "--reviewer", "ann", "--json"))
        assert told["item"]["opinions"] == 1
        assert "an answer stands once given" in review("answer", item, "4", "--reviewer", "ann", expected=1)
        levels = json.loads(review("levels", "--json"))["standings"]
        assert [(one["segment"], one["level"]) for one in levels] == [("night", "shadow")]
        exported = tmp_path / "items.jsonl"
        assert "2 items" in review("export", str(exported), "--model", "digits")
        task = json.loads(exported.read_text().splitlines()[0])
        task["annotations"] = [{"completed_by": 5, "result": [{"value": {"choices": ["3"]}}]}]
        exported.write_text(json.dumps(task) + "\n")
        assert json.loads(review("import", str(exported), "--json"))["taken"] == 1
        assert "is at full" in review("move", "digits", "full", "--reason", "trusted")
        key = read_admin_key(admin_key_file(tmp_path))
        with AdminClient(gateway.admin.removeprefix("http://"), key) as admin, connect(gateway.grpc) as client:
            reply = client.infer(asked)
            assert reply.parameters["decided_by"] == "model"
            assert reply.outputs
            labels = [{"model": "digits", "request_id": name, "label": 3} for name in (items[1]["request_id"], "x")]
            told = admin.post("/admin/feedback", {"labels": labels})["labels"]
            assert [one["taken"] for one in told] == ["accepted", "refused"]
            with pytest.raises(InvalidInputError, match="'labels' is 7; expected a list of 1 to 10000 labels"):
                admin.post("/admin/feedback", {"labels": 7})
            assert admin.get("/admin/automation/log")["lines"][0]["event"] == "moved_by_hand"
            assert [one["event"] for one in admin.get("/admin/audit")["lines"]] == ["automation.moved_by_hand"]


@pytest.mark.slow
def test_a_reviewers_key_made_by_the_command_answers_under_its_name_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        edgeward.main(["review", "key", "ann"])
    said = capsys.readouterr().out
    assert (ended.value.code or 0) == 0
    key, table = re.search(r"\n\n    (\S+)\n", said), re.search(r"( *\[\[reviewers\]\].*)", said, re.DOTALL)
    assert key is not None
    assert table is not None
    key_file = tmp_path / "ann.key"
    key_file.write_text(key[1] + "\n")
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG + "\n" + dedent(table[1]))
    assert key[1] not in config.read_text(), "the gateway is given its hash"
    run = ("gateway", "run", "digits", "--grpc-port", "0", "--http-port", "0", "--config", str(config))
    with started(tmp_path, *run) as gateway:
        with connect(gateway.grpc) as client:
            for _ in range(2):
                client.predict("digits", np.zeros((1, 1, 8, 8), np.float32))
        review, as_ann = Reviewer(capsys, gateway.admin), ("--admin-key-file", str(key_file))
        first, second = (item["id"] for item in json.loads(review("list", "--json", "--reviewer", "ann", *as_ann)))
        told = json.loads(review("answer", first, "3", "--json", *as_ann))
        assert told["item"]["opinions"] == 1
        assert [item["id"] for item in json.loads(review("list", "--json", "--reviewer", "ann", *as_ann))] == [second]
        assert "an answer stands once given" in review("answer", first, "4", *as_ann, expected=1)
        refused = review("answer", second, "3", "--reviewer", "bob", *as_ann, expected=1)
        assert "ann" in refused, refused
        review(
            "answer", second, "3", "--reviewer", "bob", expected=1
        )  # with the admin key, under a name that is only said
        review("move", "digits", "full", *as_ann, expected=1)
        assert json.loads(review("levels", "--json"))["standings"][0]["level"] == "shadow"
        key_file.write_text(key[1][:-1] + ("a" if key[1][-1] != "a" else "b"))
        review("answer", second, "3", *as_ann, expected=1)


def test_two_tables_for_one_model_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one"):
        GatewaySettings(automation=[{"model": "m"}, {"model": "m"}])  # type: ignore[arg-type]

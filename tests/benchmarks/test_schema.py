"""What `bench run` writes is what its JSON schemas say."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.run import INDEX_FILE, Cell, run
from benchmarks.samples import SCHEMA_VERSION, load_folder
from benchmarks.scenarios import Wishes, plan
from benchmarks.settings import Setting
from tests.programs import started

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs (of schemathesis) is not installed")

SCHEMAS = Path(__file__).resolve().parents[2] / "benchmarks" / "schema"
QUICK = Wishes(requests=20, duration_s=20, warm_up_s=0.05)


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}-{SCHEMA_VERSION}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in process and on a server of ours, whose model has no samples there: it is asked by name."""
    home, out = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out") / "run"
    with started(home, "serve", "digits", "--grpc-port", "0", "--http-port", "0") as server:
        targets = ["inproc", f"ours={server.http}", f"grpc://{server.grpc}"]
        cells = [Cell(Setting("digits", target), plan("single", QUICK)) for target in targets]
        assert run(cells, out, slo_ms=5.0).is_valid
    return out


@pytest.mark.slow
def test_recordings_and_index_are_as_their_schemas_say(folder: Path) -> None:
    recordings = load_folder(folder)
    for recording in recordings:
        jsonschema_rs.validate(schema("recording"), dict(recording.header))
    index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    jsonschema_rs.validate(schema("run"), index)
    assert [row["goodput_qps"] is not None for row in index["rows"]] == [True] * 3


@pytest.mark.slow
def test_our_servers_tell_which_model_they_serve(folder: Path) -> None:
    inproc, rest, grpc = (recording.header["target"]["digests"] for recording in load_folder(folder))
    assert len(inproc["bundle"]) == 64
    assert rest["bundle"] == grpc["bundle"] == inproc["bundle"]
    assert len(rest["variant"]) == 64
    index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    assert index["rows"][1]["model_sha256"] == rest["variant"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("recording", ("seed",), None),
        ("recording", ("environment", "governor"), None),
        ("recording", ("environment", "hardware", "cpu", "features"), None),
        ("recording", ("target", "digests", "variant"), "no sha"),
        ("recording", ("schema_version",), SCHEMA_VERSION + 1),
        ("run", ("slo_ms",), None),
    ],
)
def test_a_schema_notices_what_is_missing_or_wrong(folder: Path, name: str, path: tuple[str, ...], value: Any) -> None:
    """None stands for leaving the key out."""
    told = load_folder(folder)[0].header if name == "recording" else json.loads((folder / INDEX_FILE).read_text())
    document = json.loads(json.dumps(dict(told)))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    assert not jsonschema_rs.is_valid(schema(name), document)

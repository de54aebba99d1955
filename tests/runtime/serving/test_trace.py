"""Tracing: which requests leave a line, where it goes, and the settings on both protocols."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import ExecutionError, InvalidInputError, UnsupportedError
from runtime.serving import trace
from runtime.serving.trace import TraceSettings
from runtime.wire.values import InferenceRequest, InferenceResponse
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient
from tests.runtime.serving.threaded import serving

DEFAULTS = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "trace.jsonl",
    "trace_mode": "triton",
}


async def answer(request: InferenceRequest) -> InferenceResponse:
    if request.model == "broken":
        raise ExecutionError("it failed")
    return InferenceResponse(request.model, "7", {}, request.id)


async def ask(settings: TraceSettings, count: int, model: str = "m") -> None:
    infer = settings.around(answer)
    for number in range(1, count + 1):
        await infer(InferenceRequest(model, {}, id=str(number)))


def traced(folder: Path, file: str = "trace.jsonl") -> list[dict]:
    path = folder / file
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_one_of_so_many_requests_leaves_a_line(tmp_path: Path) -> None:
    settings = TraceSettings(tmp_path / "traces")
    await ask(settings, 5)
    assert not (tmp_path / "traces").exists(), "off by default"
    settings.update({"trace_level": ["TIMESTAMPS"], "trace_rate": ["3"]})
    await ask(settings, 10)
    lines = traced(tmp_path / "traces")
    assert [line["request_id"] for line in lines] == ["3", "6", "9"]
    assert {(line["model_name"], line["model_version"]) for line in lines} == {("m", "7")}
    start, end = lines[0]["timestamps"]
    assert (start["name"], end["name"]) == ("REQUEST_START", "REQUEST_END")
    assert end["ns"] >= start["ns"] > 1.7e18
    settings.update({"trace_level": ["OFF"]})
    await ask(settings, 10)
    assert len(traced(tmp_path / "traces")) == 3


async def test_a_count_ends_tracing(tmp_path: Path) -> None:
    settings = TraceSettings(tmp_path)
    settings.update({"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"], "trace_count": ["2"]})
    await ask(settings, 5)
    assert len(traced(tmp_path)) == 2


async def test_a_request_that_fails_is_traced_too(tmp_path: Path) -> None:
    settings = TraceSettings(tmp_path)
    settings.update({"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]})
    with pytest.raises(ExecutionError):
        await ask(settings, 1, "broken")
    assert traced(tmp_path)[0]["model_name"] == "broken"


async def test_a_model_may_differ_from_the_server(tmp_path: Path) -> None:
    settings = TraceSettings(tmp_path)
    settings.update({"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"], "trace_file": ["a.jsonl"]}, "a")
    assert settings.values() == DEFAULTS
    settings.update({"trace_rate": ["5"]})
    assert (settings.values("a")["trace_rate"], settings.values("b")["trace_rate"]) == ("1", "5")
    await ask(settings, 2, "a")
    await ask(settings, 10, "b")
    assert [line["model_name"] for line in traced(tmp_path, "a.jsonl")] == ["a", "a"]
    assert traced(tmp_path) == []
    settings.update({"trace_rate": None}, "a")
    assert settings.values("a")["trace_rate"] == "5", "back to the server's"
    settings.update({"trace_rate": None})
    assert settings.values("a")["trace_rate"] == "1000", "back to the default"


async def test_a_file_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trace, "MAX_FILE_BYTES", 500)
    settings = TraceSettings(tmp_path)
    settings.update({"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]})
    await ask(settings, 20)
    assert 0 < (tmp_path / "trace.jsonl").stat().st_size <= 500
    assert [record.getMessage() for record in caplog.records if "is full" in record.getMessage()], "said"
    assert len(caplog.records) == 1, "once"


async def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "trace.jsonl").symlink_to(tmp_path / "elsewhere")
    settings = TraceSettings(tmp_path / "traces")
    settings.update({"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]})
    await ask(settings, 1)
    assert (tmp_path / "elsewhere").read_text() == ""


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"trace_level": ["TENSORS"]}, UnsupportedError, "tensors are not written to disk"),
        ({"trace_level": ["ALL"]}, InvalidInputError, "'ALL' is unknown"),
        ({"trace_rate": ["0"]}, InvalidInputError, "trace_rate is '0'; expected a whole number, 1 or more"),
        ({"trace_rate": ["1", "2"]}, InvalidInputError, "trace_rate has 2 values"),
        ({"trace_count": ["-2"]}, InvalidInputError, "trace_count is '-2'"),
        ({"trace_file": ["/etc/passwd"]}, InvalidInputError, "is no plain file name"),
        ({"trace_file": ["../x"]}, InvalidInputError, "is no plain file name"),
        ({"trace_mode": ["opentelemetry"]}, UnsupportedError, "this server has 'triton'"),
        ({"log_frequency": ["5"]}, UnsupportedError, "this server has '0'"),
        ({"trace_color": ["red"]}, InvalidInputError, "unknown trace setting 'trace_color'"),
    ],
)
def test_what_cannot_be_set_is_named_and_nothing_changes(
    tmp_path: Path, changes: Mapping[str, list[str]], kind: type[Exception], words: str
) -> None:
    settings = TraceSettings(tmp_path)
    with pytest.raises(kind, match=words):
        settings.update({"trace_level": ["TIMESTAMPS"], **changes})
    assert settings.values() == DEFAULTS


def test_tritons_clients_trace_requests_of_every_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triton_grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc,http] is not installed")
    triton_http = pytest.importorskip("tritonclient.http", reason="tritonclient[grpc,http] is not installed")
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path))
    row = {"x": np.zeros((1, 2), np.float32)}
    with serving() as server:
        with triton_grpc.InferenceServerClient(server.grpc) as client:
            client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
            told = client.get_trace_settings(as_json=True)["settings"]
            assert (told["trace_level"], told["trace_rate"]) == ({"value": ["TIMESTAMPS"]}, {"value": ["1"]})
        with triton_http.InferenceServerClient(server.http) as client:
            assert client.get_trace_settings("echo")["trace_level"] == ["TIMESTAMPS"]
            client.update_trace_settings("add", {"trace_level": ["OFF"]})
            assert client.get_trace_settings("add")["trace_level"] == ["OFF"]
            assert client.get_trace_settings()["trace_level"] == ["TIMESTAMPS"]
            client.update_trace_settings("add", {"trace_level": None})
            assert client.get_trace_settings("add")["trace_level"] == ["TIMESTAMPS"]
        for made in (GrpcClient(server.grpc), HttpClient(server.http, binary=True)):
            assert made.send(Call("echo", row, id=type(made).__name__)).status == "OK"
            made.close()
    assert [line["request_id"] for line in traced(tmp_path / "traces")] == ["GrpcClient", "HttpClient"]

"""The repository extension on a real server: overrides of config and files, version policies, folders, hot reload."""

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protos import inference
from runtime.engine.model import Model
from runtime.engine.repository import Repository
from runtime.errors import EdgewardError, InvalidInputError, ModelNotFoundError, PayloadTooLargeError, UnsupportedError
from runtime.serving import uploads as uploads_module
from runtime.serving.load_parameters import BatchOptions, check_unload, decode_overrides
from runtime.serving.polling import changes, poll
from runtime.serving.program import load_all, make_engine
from runtime.serving.settings import ModelServerSettings
from runtime.serving.uploads import Uploads
from tests.runtime.serving import real as real_models
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, grpc_call
from tests.runtime.serving.real import FIRST, INPUTS, SECOND, put_model, serving_models, simple_bytes
from tests.runtime.serving.threaded import PATIENCE_S, Threaded


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Threaded]:
    """A server that a test may change."""
    with serving_models(tmp_path) as server:
        yield server


@pytest.fixture(params=["grpc", "http"])
def triton(request: pytest.FixtureRequest, own: Threaded) -> Iterator[tuple[Any, Any]]:
    module = pytest.importorskip(f"tritonclient.{request.param}", reason="tritonclient is not installed")
    with module.InferenceServerClient(getattr(own, request.param)) as client:
        yield module, client


def index(client: Any) -> dict[tuple[str, str], tuple[str, str]]:
    told = client.get_model_repository_index()
    rows = (
        told
        if isinstance(told, list)
        else [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in told.models]
    )
    return {(row["name"], row["version"]): (row["state"], row["reason"]) for row in rows}


def config(client: Any, name: str = "simple") -> dict[str, Any]:
    try:
        return client.get_model_config(name, as_json=True)["config"]
    except TypeError:
        return client.get_model_config(name)


def outputs(module: Any, client: Any, model: str = "simple", rows: int = 1) -> np.ndarray:
    inputs = [module.InferInput(f"INPUT{at}", [rows, 16], "INT32") for at in (0, 1)]
    for tensor, value in zip(inputs, (FIRST, SECOND), strict=True):
        tensor.set_data_from_numpy(np.repeat(value, rows, axis=0))
    return client.infer(model, inputs).as_numpy("OUTPUT0")


def test_a_folder_lists_what_is_loaded_and_what_is_not(triton: tuple[Any, Any]) -> None:
    module, client = triton
    told = index(client)
    assert told["simple", "1"] == told["simple", "2"] == ("READY", "")
    assert told["spare", ""] == ("UNAVAILABLE", "not loaded")
    client.load_model("spare")
    assert index(client)["spare", "1"] == ("READY", "")
    with pytest.raises(module.InferenceServerException):
        client.load_model("broken")
    state, reason = index(client)["broken", "1"]
    assert state == "UNAVAILABLE"
    assert "loading it failed" in reason
    client.unload_model("spare", unload_dependents=True)
    assert index(client)["spare", "1"] == ("UNAVAILABLE", "unloaded")
    with pytest.raises(module.InferenceServerException, match="it holds 'broken', 'simple', 'spare'"):
        client.load_model("nobody")


def test_a_model_is_ready_once_it_is_warm_and_others_are_answered_meanwhile(
    triton: tuple[Any, Any], own: Threaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, client = triton
    begun, may_end, warm_up = threading.Event(), threading.Event(), Model.warm_up

    def held_up(model: Model) -> float:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        return warm_up(model)

    monkeypatch.setattr(Model, "warm_up", held_up)
    with grpc.insecure_channel(own.grpc) as operator, ThreadPoolExecutor(1) as pool:
        load = inference.RepositoryModelLoadRequest(model_name="spare")
        loading = pool.submit(grpc_call, operator, "RepositoryModelLoad", load, timeout=PATIENCE_S)
        try:
            assert begun.wait(PATIENCE_S)
            assert index(client)["spare", "1"][0] == "LOADING"
            assert not client.is_model_ready("spare")
            with pytest.raises(module.InferenceServerException):
                outputs(module, client, "spare")
            assert outputs(module, client).shape == (1, 16), "another model is served"
        finally:
            may_end.set()
        loading.result(PATIENCE_S)
    assert index(client)["spare", "1"] == ("READY", "")
    assert client.is_model_ready("spare")
    assert np.array_equal(outputs(module, client, "spare"), FIRST + SECOND)


def test_a_config_changes_batching_and_versions_until_the_next_load(triton: tuple[Any, Any]) -> None:
    module, client = triton
    assert config(client)["version_policy"]["latest"] == {"num_versions": 2}
    wanted = config(client)
    wanted["max_batch_size"] = 4
    wanted["dynamic_batching"] = {"preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 100}
    wanted["version_policy"] = {"specific": {"versions": [1]}}
    client.load_model("simple", config=json.dumps(wanted))
    told = config(client)
    assert told["max_batch_size"] == 4
    assert told["dynamic_batching"]["preferred_batch_size"] == [2, 4]
    assert int(told["dynamic_batching"]["max_queue_delay_microseconds"]) == 100
    assert told["version_policy"]["specific"]["versions"] in ([1], ["1"])
    assert told["instance_group"][0]["kind"] == "KIND_CPU"
    assert index(client)["simple", "2"] == ("UNAVAILABLE", "replaced")
    assert np.array_equal(outputs(module, client, rows=4), np.repeat(FIRST + SECOND, 4, axis=0))
    with pytest.raises(module.InferenceServerException, match="has 5 rows; model 'simple' takes at most 4"):
        outputs(module, client, rows=5)
    client.load_model("simple")
    assert config(client)["max_batch_size"] > 4
    assert index(client)["simple", "2"] == ("READY", "")


def test_a_file_replaces_the_model_until_the_next_load(triton: tuple[Any, Any], tmp_path: Path) -> None:
    module, client = triton
    other = simple_bytes(("Mul", "Sub"))
    client.load_model("simple", config="{}", files={"file:7/model.onnx": other})
    assert {key for key, (state, _) in index(client).items() if state == "READY"} == {("simple", "7")}
    assert np.array_equal(outputs(module, client), FIRST * SECOND)
    client.load_model("brand-new", config="{}", files={"file:1/model.onnx": other})
    assert np.array_equal(outputs(module, client, "brand-new"), FIRST * SECOND)
    kept = [file for file in (tmp_path / "home" / "uploads").rglob("*") if file.is_file()]
    assert len(kept) == 2
    client.load_model("simple")
    assert np.array_equal(outputs(module, client), FIRST + SECOND)
    kept = [file for file in (tmp_path / "home" / "uploads").rglob("*") if file.is_file()]
    assert [file.relative_to(file.parents[2]).as_posix() for file in kept] == ["brand-new/1/model.onnx"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file:../../x/model.onnx", "is not taken"),
        ("file:/etc/model.onnx", "is not taken"),
        ("file:1/../../model.onnx", "is not taken"),
        ("file:1/model.pkl", "is not taken"),
        ("file:0/model.onnx", "is not taken"),
        ("file:1/model.onnx", "simple"),
    ],
)
def test_a_wrong_file_changes_nothing(own: Threaded, tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(EdgewardError, match=words):
        own.ask(own.service.load("simple", {path: b"no model at all"}))
    for client in (GrpcClient(own.grpc), HttpClient(own.http, binary=True)):
        assert client.send(Call("simple", INPUTS)).version == "2"
        client.close()
    assert list((tmp_path / "home").glob("uploads/*")) == []


def test_files_are_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    with serving_models(tmp_path, upload=False) as server:
        with pytest.raises(UnsupportedError, match="--allow-model-upload"):
            server.ask(server.service.load("simple", {"file:1/model.onnx": simple_bytes()}))
        assert not (tmp_path / "home" / "uploads").exists()
    assert ModelServerSettings().allow_model_upload is False


def test_uploads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_TOTAL_BYTES", 10)
    kept = Uploads(tmp_path / "uploads")
    kept.keep("a", {"1/model.onnx": b"12345678"})
    with pytest.raises(PayloadTooLargeError, match="uploaded models take 8 bytes, and 3 more"):
        kept.keep("b", {"1/model.onnx": b"123"})
    for name in ("..", "a/b", "", "-x"):
        with pytest.raises(InvalidInputError, match="cannot name a model with files"):
            kept.keep(name, {"1/model.onnx": b"1"})
    with pytest.raises(InvalidInputError, match="at most 16"):
        kept.keep("c", {f"{at}/model.onnx": b"" for at in range(1, 18)})


REPORT = {"backend": {"string_value": "onnxruntime-cpu"}, "shadow_checks": {"string_value": "7"}}
NOW = {
    "parameters": REPORT,
    "name": "m",
    "platform": "onnxruntime_onnx",
    "max_batch_size": 8,
    "input": [{"name": "x", "dims": [16]}],
}


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"max_batch_size": -1}, InvalidInputError, "'max_batch_size' is -1; expected a number from 0 to 64"),
        ({"max_batch_size": 65}, InvalidInputError, "from 0 to 64"),
        ({"max_batch_size": True}, InvalidInputError, "is True"),
        ({"name": "other"}, InvalidInputError, "names the model 'other'"),
        ({"platform": "tensorrt_plan"}, UnsupportedError, "'platform' is 'tensorrt_plan', which cannot be changed"),
        ({"input": [{"name": "y"}]}, UnsupportedError, "'input'"),
        ({"parameters": {"backend": {"string_value": "cuda"}}}, UnsupportedError, "'parameters'"),
        ({"parameters": {"mine": {"string_value": "1"}}}, UnsupportedError, "'parameters'"),
        ({"parameters": 3}, UnsupportedError, "'parameters'"),
        ({"optimization": {"priority": 1}}, UnsupportedError, "'optimization'"),
        ({"dynamic_batching": 3}, InvalidInputError, "expected an object"),
        ({"dynamic_batching": {"preferred_batch_size": [0]}}, InvalidInputError, "is 0; expected a number from 1"),
        ({"dynamic_batching": {"preferred_batch_size": 3}}, InvalidInputError, "expected a list"),
        ({"dynamic_batching": {"max_queue_delay_microseconds": 10**8}}, InvalidInputError, "to 10000000"),
        ({"dynamic_batching": {"priority_levels": 2}}, UnsupportedError, "priority_levels"),
        ({"version_policy": {"latest": {"num_versions": 0}}}, InvalidInputError, "is 0"),
        ({"version_policy": {"newest": {}}}, InvalidInputError, "version_policy"),
        ({"version_policy": {"specific": {"versions": []}}}, InvalidInputError, "version_policy"),
    ],
)
def test_a_config_beyond_its_limits_is_refused(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        decode_overrides("m", {"config": json.dumps(given)}, NOW, 64)


def test_a_config_may_repeat_what_is_so() -> None:
    counted_on = {**REPORT, "shadow_checks": {"string_value": "6"}}
    given = {
        **NOW,
        "parameters": counted_on,
        "input": [{"dims": ["16"]}],
        "dynamic_batching": {"preserve_ordering": False},
    }
    assert decode_overrides("m", {"config": json.dumps(given)}, NOW, 64).batching == BatchOptions(8)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"config": "{"}, InvalidInputError),
        ({"config": "[]"}, InvalidInputError),
        ({"config": "[" * 60_000}, InvalidInputError),
        ({"config": "{}" + " " * 70_000}, InvalidInputError),
        ({"config": 3}, InvalidInputError),
        ({"file:1/model.onnx": "text"}, InvalidInputError),
        ({"color": "red"}, UnsupportedError),
    ],
)
def test_other_load_parameters_are_refused(parameters: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        decode_overrides("m", parameters, NOW, 64)


def test_unload_takes_one_parameter() -> None:
    check_unload({"unload_dependents": True})
    with pytest.raises(InvalidInputError, match="is 'yes'"):
        check_unload({"unload_dependents": "yes"})
    with pytest.raises(UnsupportedError, match="'force' is not supported"):
        check_unload({"force": True})


# -------------------------------------------------------------------- folders


def test_a_folder_finds_models_by_name_alone(tmp_path: Path) -> None:
    put_model(tmp_path / "repository", "m", 1)
    (tmp_path / "outside").mkdir()
    (tmp_path / "repository" / ".hidden").mkdir()
    (tmp_path / "repository" / "a file").write_text("")
    repository = Repository(tmp_path / "repository")
    assert repository.names() == ["m"]
    assert repository.find("m") == tmp_path / "repository" / "m"
    for name in ("../outside", "..", ".", ".hidden", "", "m/1", str(tmp_path / "outside")):
        assert repository.find(name) is None


def test_all_of_a_folder_is_served_but_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EDGEWARD_HOME", str(tmp_path / "home"))
    put_model(tmp_path / "repository", "m", 1, 2, 3)
    (tmp_path / "repository" / "empty").mkdir()
    settings = ModelServerSettings.model_validate({"model_repository": tmp_path / "repository", "versions": "latest:2"})
    engine = make_engine(settings)
    load_all(engine, settings)
    try:
        assert engine.versions("m") == [2, 3]
        assert "model empty of the repository is not served" in caplog.text
        states = {(entry.name, entry.version): entry.state.value for entry in engine.index()}
        assert states == {("empty", ""): "UNAVAILABLE", ("m", "2"): "READY", ("m", "3"): "READY"}
    finally:
        engine.close()
    with pytest.raises(EdgewardError, match="is no folder"):
        make_engine(ModelServerSettings(model_repository=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="poll_s is set without model_repository"):
        ModelServerSettings(poll_s=1)
    with pytest.raises(ValueError, match="version policy 'newest' is not understood"):
        ModelServerSettings.model_validate({"versions": "newest"})


@pytest.mark.parametrize(
    ("served", "before", "now", "load", "unload"),
    [
        ({"a": 1}, {"a": 1}, {"a": 1}, (), ()),
        ({"a": 1}, {"a": 1}, {"a": 2}, (), ()),
        ({"a": 1}, {"a": 2}, {"a": 2}, ("a",), ()),
        ({"a": 1}, {"a": 2}, {"a": 3}, (), ()),
        ({}, {}, {"a": 1}, (), ()),
        ({}, {"a": 1}, {"a": 1}, ("a",), ()),
        ({"a": 1}, {"a": 1}, {}, (), ()),
        ({"a": 1}, {}, {}, (), ("a",)),
    ],
)
def test_a_change_counts_once_it_has_settled(served: Any, before: Any, now: Any, load: Any, unload: Any) -> None:
    found = changes(served, before, now)
    assert (found.load, found.unload) == (load, unload)


async def test_polling_follows_the_folder(tmp_path: Path) -> None:
    from runtime.serving.local_service import LocalService

    engine = real_models.make_engine(tmp_path, "latest:1")
    repository = engine.repository
    assert repository is not None
    put_model(repository.root, "m", 1)
    engine.load("m")
    service = LocalService(engine)
    looking = asyncio.create_task(poll(service, repository, 0.01, repository.fingerprints()))

    async def until(condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  (files change, nobody sets an event)
                await asyncio.sleep(0.005)

    try:
        put_model(repository.root, "m", 2)
        await until(lambda: engine.versions("m") == [2])
        put_model(repository.root, "late", 1)
        await until(lambda: engine.versions("late") == [1])
        put_model(repository.root, "late", 2, content=b"no model")
        await until(lambda: any("loading it failed" in entry.reason for entry in service.index()))
        assert engine.versions("late") == [1], "what was served stays"
        shutil.rmtree(repository.root / "m")
        await until(lambda: engine.versions("m") == [])
        with pytest.raises(ModelNotFoundError):
            await service.load("../home", {})
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await service.drain()
        service.close()

"""ModelStatistics on both protocols, in Triton's meaning, and the same numbers for Prometheus."""

import json
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from protos import inference
from runtime.serving.statistics import Statistics, read_statistics
from runtime.wire.statistics import Spent
from tests.runtime.serving.clients import Call, GrpcClient, HttpClient, grpc_call
from tests.runtime.serving.real import INPUTS, serving_models
from tests.runtime.serving.threaded import Threaded


@pytest.fixture
def rest(real: Threaded) -> Iterator[HttpClient]:
    client = HttpClient(real.http, binary=True)
    yield client
    client.close()


@pytest.fixture
def rpc(real: Threaded) -> Iterator[GrpcClient]:
    client = GrpcClient(real.grpc)
    yield client
    client.close()


def read(client: HttpClient, path: str) -> list[dict]:
    status, _, data = client.request("GET", path)
    assert status == 200, data
    return json.loads(data)["model_stats"]


def test_a_request_is_counted_once_with_its_rows(rest: HttpClient, rpc: GrpcClient) -> None:
    path = "/v2/models/simple/versions/1/stats"
    before = read(rest, path)[0]
    rows = {name: np.repeat(value, 3, axis=0) for name, value in INPUTS.items()}
    assert rpc.send(Call("simple", rows, version="1")).status == "OK"
    assert rest.send(Call("simple", rows, version="1")).status == "OK"
    after = read(rest, path)[0]
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] - before["execution_count"] == 2
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] == 2
    stats = after["inference_stats"]
    parts = sum(stats[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert stats["success"]["ns"] >= stats["compute_infer"]["ns"] > 0
    assert parts == pytest.approx(stats["success"]["ns"], rel=0.5)
    batches = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in after["batch_stats"]}
    assert batches[3] >= 2
    assert after["last_inference"] > 1_700_000_000_000


def test_both_protocols_say_the_same(rest: HttpClient, rpc: GrpcClient) -> None:
    rpc.send(Call("simple", INPUTS))
    told = grpc_call(rpc.channel, "ModelStatistics", inference.ModelStatisticsRequest(name="simple")).model_stats
    assert [model.version for model in told] == ["1", "2"], "versions are whole numbers: perf_analyzer reads them"
    for ours, theirs in zip(told, read(rest, "/v2/models/simple/stats"), strict=True):
        assert (ours.name, ours.version, ours.inference_count) == (
            theirs["name"],
            theirs["version"],
            theirs["inference_count"],
        )
        assert ours.inference_stats.queue.count == theirs["inference_stats"]["queue"]["count"]
        assert [batch.batch_size for batch in ours.batch_stats] == [b["batch_size"] for b in theirs["batch_stats"]]
    every = grpc_call(rpc.channel, "ModelStatistics", inference.ModelStatisticsRequest()).model_stats
    assert len(every) == len(read(rest, "/v2/models/stats")) >= 2


def test_a_model_that_is_not_served_has_none(rest: HttpClient, rpc: GrpcClient) -> None:
    assert rest.request("GET", "/v2/models/nobody/stats")[0] == 404
    assert rest.request("GET", "/v2/models/simple/versions/9/stats")[0] == 404
    with pytest.raises(grpc.RpcError) as caught:
        grpc_call(rpc.channel, "ModelStatistics", inference.ModelStatisticsRequest(name="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_tritons_clients_read_them(real: Threaded) -> None:
    triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc,http] is not installed")
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[grpc,http] is not installed")
    with triton.InferenceServerClient(real.grpc) as client:
        assert client.get_inference_statistics("simple", "2").model_stats[0].version == "2"
        assert "statistics" in client.get_server_metadata().extensions
    with http.InferenceServerClient(real.http) as client:
        assert client.get_inference_statistics("simple", "2")["model_stats"][0]["version"] == "2"


def test_failures_are_refusals_lateness_and_errors() -> None:
    totals = Statistics(requests=4, request_ns=100, queue_ns=10, compute=(1, 2, 3), rows=9)
    totals.failures, totals.rejected, totals.expired, totals.failed_ns = 1, 2, 3, 50
    told = read_statistics("m", "1", totals)
    assert (told.success, told.fail) == (Spent(4, 100), Spent(6, 50))
    assert (told.compute_input, told.compute_infer, told.compute_output) == (Spent(4, 1), Spent(4, 2), Spent(4, 3))


# -------------------------------------------------------------------- metrics


def test_metrics_are_what_prometheus_reads(rest: HttpClient) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    assert rest.send(Call("simple", INPUTS)).status == "OK"
    status, headers, data = rest.request("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in parser.text_string_to_metric_families(data.decode())}
    assert all(
        family.documentation and family.type in ("counter", "gauge", "histogram") for family in families.values()
    )
    values = {
        (sample.name, sample.labels.get("version"), sample.labels.get("reason")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    stats = {model["version"]: model for model in read(rest, "/v2/models/simple/stats")}
    text = data.decode()
    assert 'nv_inference_request_success{model="simple",version="1"} ' in text, (
        "the parser below calls all counters _total"
    )
    for version in ("1", "2"):
        told = stats[version]["inference_stats"]
        assert values["nv_inference_request_success_total", version, None] == told["success"]["count"]
        assert values["edgeward_requests_succeeded_total", version, None] == told["success"]["count"]
        assert values["edgeward_queue_seconds_total", version, None] == pytest.approx(told["queue"]["ns"] / 1e9)
        assert values["nv_inference_queue_duration_us_total", version, None] == told["queue"]["ns"] // 1000
        assert values["nv_inference_request_failure_total", version, "REJECTED"] == 0
    assert values["edgeward_ready", None, None] == 1


def test_the_agent_and_the_gateway_have_them_by_the_same_service(tmp_path) -> None:
    from edge_agent.service import AgentService

    with serving_models(tmp_path) as server:
        agent = AgentService(server.service)
        server.ask(_infer(agent))
        (model,) = agent.statistics("simple", "2")
        assert model.success.count == 1


async def _infer(agent) -> None:
    from runtime.wire.values import InferenceRequest

    reply = await agent.infer(InferenceRequest("simple", INPUTS))
    assert reply.version == "2"

"""`/metrics` of a server with real models: histograms, labels, errors by class, the rename map; prometheus-client reads it."""

import asyncio
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.client import connect
from runtime.engine.drift import Verdict
from runtime.engine.tally import Outcome, Switch, SwitchReason
from runtime.errors import EdgewardError, InvalidInputError, OverloadedError
from runtime.serving.additions import Additions
from runtime.serving.load import Load
from runtime.serving.metrics.endpoint import render_metrics
from runtime.serving.metrics.metric_names import TRITON, WITHOUT_TWIN, renamed
from runtime.serving.metrics.model_metrics import model_metrics
from runtime.telemetry.exposition import Family, Kind
from runtime.telemetry.histogram import Buckets
from tests.runtime.serving.clients import HttpClient
from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.real import INPUTS, serving_models
from tests.runtime.serving.threaded import Threaded, serving

# https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html, every table.
TRITONS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_first_response_histogram_ms",
    "nv_inference_request_summary_us",
    "nv_inference_queue_summary_us",
    "nv_inference_compute_input_summary_us",
    "nv_inference_compute_infer_summary_us",
    "nv_inference_compute_output_summary_us",
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_cpu_utilization",
    "nv_cpu_memory_total_bytes",
    "nv_cpu_memory_used_bytes",
    "nv_pinned_memory_pool_total_bytes",
    "nv_pinned_memory_pool_used_bytes",
    "nv_cache_num_hits_per_model",
    "nv_cache_num_misses_per_model",
    "nv_cache_hit_duration_per_model",
    "nv_cache_miss_duration_per_model",
}

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")


@pytest.fixture(scope="module", params=at_hand())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with serving_models(tmp_path_factory.mktemp("real"), grpc_front=request.param) as threaded:
        yield threaded


def scrape(server: Threaded) -> dict[str, Any]:
    """What a program with all collectors of models would answer; the server of these tests has none of its own."""

    def labels_of(model: str, version: str) -> dict[str, str]:
        return {"role": "candidate" if version == "2" else "stable", "served_by": "cloud"}

    additions = Additions(collectors=(model_metrics(server.service, labels_of),), labels_of=labels_of)
    text = server.ask(render_metrics(server.service, additions))
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def value(family: Any, name: str, **labels: str) -> float:
    found = [s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1, (name, labels, family.samples)
    return float(found[0])


def test_times_are_split_and_labelled(server: Threaded) -> None:
    with connect(server.grpc) as client:
        for _ in range(5):
            client.predict("simple", INPUTS, version="2")
    families = scrape(server)
    duration, stages = families["edgeward_request_duration_seconds"], families["edgeward_request_stage_seconds"]
    assert duration.type == stages.type == "histogram"
    ours = {"model": "simple", "version": "2", "role": "candidate", "served_by": "cloud"}
    count = value(duration, "edgeward_request_duration_seconds_count", **ours)
    assert count >= 5
    parts = 0.0
    for stage in ("queue", "batch", "execute"):
        assert value(stages, "edgeward_request_stage_seconds_count", stage=stage, **ours) == count
        parts += value(stages, "edgeward_request_stage_seconds_sum", stage=stage, **ours)
    assert parts == pytest.approx(value(duration, "edgeward_request_duration_seconds_sum", **ours), rel=1e-6)
    assert value(families["edgeward_requests_succeeded"], "edgeward_requests_succeeded_total", **ours) == count
    assert value(families["edgeward_batch_rows"], "edgeward_batch_rows_sum", **ours) == count
    assert value(families["edgeward_queue_rows"], "edgeward_queue_rows", **ours) == 0
    assert value(families["edgeward_backend_info"], "edgeward_backend_info", backend="onnxruntime-cpu", **ours) == 1


def test_the_names_of_triton_and_kserve_tell_the_same(server: Threaded) -> None:
    with connect(server.grpc) as client:
        client.predict("simple", INPUTS, version="1")
    families = scrape(server)
    for version in ("1", "2"):
        ours = value(families["edgeward_request_seconds"], "edgeward_request_seconds_total", version=version)
        theirs = value(
            families["nv_inference_request_duration_us"], "nv_inference_request_duration_us_total", version=version
        )
        assert theirs == pytest.approx(ours * 1e6, abs=1)
    assert "nv_inference_pending_request_count" in families
    whole = families["request_predict_seconds"]
    both = [
        value(families["edgeward_requests_succeeded"], "edgeward_requests_succeeded_total", version=v) for v in "12"
    ]
    assert value(whole, "request_predict_seconds_count", model_name="simple") == sum(both), "KServe has no versions"


def test_what_keeps_a_model_honest_is_counted(server: Threaded) -> None:
    (model,) = [model for model in server.service.engine.models() if model.version == 2]
    assert model.watch is not None
    totals = model.watch.totals
    ours = {"model": "simple", "version": "2", "role": "candidate"}

    def told() -> dict[str, float]:
        families = scrape(server)
        checks, looks = families["edgeward_shadow_checks"], families["edgeward_latency_verdicts"]
        again, switches = families["edgeward_recalibrations"], families["edgeward_backend_switches"]
        assert {family.type for family in (checks, looks, again, switches)} == {"counter"}
        return {
            **{
                result: value(checks, "edgeward_shadow_checks_total", result=result, **ours)
                for result in ("agreed", "disagreed", "failed")
            },
            **{
                verdict: value(looks, "edgeward_latency_verdicts_total", verdict=verdict, **ours)
                for verdict in ("as_measured", "slower", "faster", "own_load")
            },
            **{
                f"{reason}, {outcome}": value(
                    again, "edgeward_recalibrations_total", reason=reason, outcome=outcome, **ours
                )
                for reason in ("slower", "faster")
                for outcome in ("switched", "kept", "failed")
            },
            **{
                f"{sample.labels['from']} > {sample.labels['to']}, {sample.labels['reason']}": sample.value
                for sample in switches.samples
                if ours.items() <= sample.labels.items()
            },
        }

    before = told()
    assert not any(" > " in name for name in before), "nothing took over yet"
    totals.shadow_checks, totals.disagreements, totals.shadow_failures = 7, 2, 1
    totals.verdicts[Verdict.OWN_LOAD] += 4
    totals.recalibrated[Verdict.SLOWER, Outcome.SWITCHED] += 1
    model.switches[Switch("a on x, 2 threads", "a on x, 1 thread", SwitchReason.MEASURED_AGAIN)] += 1
    after = told()
    assert (after["agreed"], after["disagreed"], after["failed"]) == (5, 2, 1)
    assert after["own_load"] == before["own_load"] + 4
    assert {name: count for name, count in after.items() if "," in name and count} == {
        "slower, switched": 1,
        "a on x, 2 threads > a on x, 1 thread, measured_again": 1,
    }


def test_errors_are_counted_by_class_on_every_transport_and_name_no_model(server: Threaded) -> None:
    http = HttpClient(server.http, binary=False)

    def told() -> dict[str, float]:
        text = http.request("GET", "/metrics")[2].decode()
        families = {family.name: family for family in parser.text_string_to_metric_families(text)}
        assert all(set(s.labels) == {"error", "retryable"} for s in families["edgeward_errors"].samples)
        assert families["edgeward_requests_in_flight"].samples[0].value == 0
        return {s.labels["error"]: s.value for s in families["edgeward_errors"].samples}

    before = told()
    with connect(server.grpc) as client:
        for model, inputs in (("nobody", INPUTS), ("simple", {"INPUT0": np.zeros((1, 3), np.int32)})):
            with pytest.raises(EdgewardError):
                client.predict(model, inputs)
    status, _, _ = http.request("POST", "/v2/models/nobody/infer", b'{"inputs": []}')
    assert status >= 400
    after = told()
    http.close()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert sum(grown.values()) == 3
    assert grown["ModelNotFoundError"] >= 1
    assert grown["InvalidInputError"] >= 1


async def test_in_flight_counts_who_is_being_answered_and_falls_after_errors() -> None:
    load, gate = Load(), asyncio.Event()

    async def infer(*, fails: bool) -> None:
        with load.answering():
            await gate.wait()
            if fails:
                raise InvalidInputError("bad")

    waiting = [asyncio.ensure_future(infer(fails=fails)) for fails in (False, True, False)]
    await asyncio.sleep(0)
    assert (load.in_flight, load.answered) == (3, 0)
    gate.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (load.in_flight, load.answered) == (0, 2)


def test_an_answer_that_cannot_be_sent_is_an_error_and_no_answer() -> None:
    """JSON has no NaN. The first request goes the long way, those after it are known by their head."""
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'
    with serving() as fake:
        http = HttpClient(fake.http, binary=True)

        def told() -> tuple[float, float]:
            text = http.request("GET", "/metrics")[2].decode()
            families = {family.name: family for family in parser.text_string_to_metric_families(text)}
            (answered,) = families["edgeward_inferences"].samples
            return answered.value, sum(sample.value for sample in families["edgeward_errors"].samples)

        answered, failed = told()
        for _ in range(3):
            sent = head + np.array([np.nan], np.float32).tobytes()
            status, _, data = http.request(
                "POST", "/v2/models/echo/infer", sent, {"Inference-Header-Content-Length": str(len(head))}
            )
            assert status == 400, data
        assert told() == (answered, failed + 3)
        http.close()


def test_an_unforeseen_error_is_told_as_that() -> None:
    load = Load()
    for error in (OverloadedError("full"), OverloadedError("full"), KeyError("x")):
        load.note_error(error)
    (errors,) = [family for family in load.families() if family.name == "edgeward_errors_total"]
    assert [(labels["error"], labels["retryable"], count) for labels, count in errors.samples] == [
        ("OverloadedError", "true", 2),
        ("Unforeseen", "false", 1),
    ]


def test_aliases_rename_filter_and_add_up() -> None:
    buckets = [Buckets((0.1,), (1, 2), 0.5), Buckets((0.1,), (3, 0), 0.25)]
    families = [
        Family(
            "edgeward_request_duration_seconds",
            Kind.HISTOGRAM,
            "D.",
            [({"model": "m", "version": str(at)}, each) for at, each in enumerate(buckets)],
        ),
        Family("edgeward_machine_memory_bytes", Kind.GAUGE, "M.", [({"state": "total"}, 10), ({"state": "used"}, 4)]),
        Family("edgeward_gpu_busy_ratio", Kind.GAUGE, "B.", [({"gpu": "0", "uuid": "GPU-7"}, 0.5)]),
        Family(
            "edgeward_requests_failed_total",
            Kind.COUNTER,
            "F.",
            [
                ({"model": "m", "version": "1", "role": "stable", "reason": reason}, count)
                for reason, count in (("rejected", 3), ("expired", 2), ("failed", 1))
            ],
        ),
        Family("edgeward_requests_cancelled_total", Kind.COUNTER, "C.", [({"model": "m", "version": "1"}, 4)]),
    ]
    told = {family.name: family.samples for family in renamed(families)}
    assert told["request_predict_seconds"] == [({"model_name": "m"}, Buckets((0.1,), (4, 2), 0.75))]
    assert told["nv_cpu_memory_total_bytes"] == [({}, 10)]
    assert told["nv_cpu_memory_used_bytes"] == [({}, 4)]
    assert told["nv_gpu_utilization"] == [({"gpu_uuid": "GPU-7"}, 0.5)]
    assert told["nv_inference_request_failure"] == [
        ({"model": "m", "version": "1", "reason": "CANCELED"}, 4),
        ({"model": "m", "version": "1", "reason": "REJECTED"}, 5),
        ({"model": "m", "version": "1", "reason": "BACKEND"}, 1),
    ]


def _failed() -> list[Family]:
    labels = {"model": "m", "version": "1"}
    samples = [({**labels, "reason": reason}, 1) for reason in ("rejected", "expired", "failed")]
    ours = Family("edgeward_requests_failed_total", Kind.COUNTER, "F.", samples)
    return renamed([ours, Family("edgeward_requests_cancelled_total", Kind.COUNTER, "C.", [(labels, 1)])])


def test_every_name_of_tritons_guide_is_told_or_said_to_have_no_twin() -> None:
    renamed_there = {alias.theirs for alias in TRITON}
    assert renamed_there < TRITONS, "no name is invented"
    for name in TRITONS - renamed_there:
        assert sum(fnmatchcase(name, pattern) for pattern in WITHOUT_TWIN) == 1, name
    assert not any(fnmatchcase(name, pattern) for name in renamed_there for pattern in WITHOUT_TWIN)
    reasons = {sample["reason"] for family in _failed() for sample, _ in family.samples}
    assert reasons <= {"REJECTED", "CANCELED", "BACKEND", "OTHER"}


def test_what_tritons_dashboards_ask_for_is_there(server: Threaded) -> None:
    """Expressions of the dashboards in Triton's own repository (deploy/), by metric and labels; GPUs this machine has not."""
    with connect(server.grpc) as client:
        client.predict("simple", INPUTS, version="1")
    families = scrape(server)
    for name, labels in (
        ("nv_inference_count", {"model", "version"}),
        ("nv_inference_exec_count", {"model", "version"}),
        ("nv_inference_request_success", {"model", "version"}),
        ("nv_inference_request_failure", {"model", "version", "reason"}),
        ("nv_inference_request_duration_us", {"model", "version"}),
        ("nv_inference_queue_duration_us", {"model", "version"}),
        ("nv_inference_compute_infer_duration_us", {"model", "version"}),
    ):
        assert {frozenset(sample.labels) for sample in families[name].samples} == {frozenset(labels)}, name
        assert families[name].type == "counter"


def test_a_program_of_its_own_tells_all_of_them(tmp_path: Path) -> None:
    from tests.programs import started

    (tmp_path / "models").mkdir()
    with started(tmp_path, "serve", "digits", "--grpc-port", "0", "--http-port", "0") as program:
        http = HttpClient(program.http.removeprefix("http://"), binary=False)
        text = http.request("GET", "/metrics")[2].decode()
        document = json.loads(http.request("GET", "/v2/models/digits/stats")[2])
        http.close()
    assert document["model_stats"]
    families = {family.name for family in parser.text_string_to_metric_families(text)}
    assert {
        "edgeward_request_duration_seconds",
        "process_resident_memory_bytes",
        "edgeward_backend_info",
        "nv_cpu_utilization",
    } <= families

"""Spans of an agent and a gateway, as a collector gets them: one trace, from the caller's on, with the stages below."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from edge_agent.network_time import TimedUpstream
from edge_agent.service import AgentService
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from protos import inference
from runtime.errors import WrongUseError
from runtime.serving.controls import Controls
from runtime.telemetry.tracing import open_tracer
from runtime.wire.grpc_codec import encode_request
from runtime.wire.rest_codec import encode_request as encode_rest
from runtime.wire.values import InferenceRequest
from tests.runtime.serving.clients import HttpClient
from tests.runtime.serving.fronts import at_hand
from tests.runtime.serving.real import INPUTS, make_engine, serving_models
from tests.runtime.serving.threaded import Threaded, serving

trace_service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="OpenTelemetry is not installed (extra otel)"
)

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"


@dataclass(frozen=True)
class Span:
    program: str
    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    is_error: bool


class Collector:
    """An OTLP/HTTP receiver."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.bodies.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                outer.paths.add(self.path)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Span]:
        return [span for body in self.bodies for span in _spans(body)]


def _spans(body: bytes) -> Iterator[Span]:
    message = trace_service.ExportTraceServiceRequest.FromString(body)
    for resource in message.resource_spans:
        program = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
            ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
            times = span.start_time_unix_nano, span.end_time_unix_nano
            yield Span(program, span.name, *ids, *times, attributes, span.status.code == 2)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


@contextmanager
def agent_of(gateway: Threaded, root: Path, **settings: Any) -> Iterator[Threaded]:
    """An agent without models of its own."""
    from runtime.serving.local_service import LocalService

    engine = make_engine(root)
    made: list[tuple[LocalService, Gateways]] = []

    def make() -> AgentService:
        local, upstream = LocalService(engine, name="agent"), Gateways([Gateway(gateway.grpc)])
        made.append((local, upstream))
        return AgentService(local, TimedUpstream(upstream))

    with serving(make_service=make, **settings) as agent:
        yield agent
        agent.ask(made[0][1].close())
    made[0][0].close()


def over_grpc(server: Threaded, request: InferenceRequest, *metadata: tuple[str, str]) -> inference.ModelInferResponse:
    method = inference.METHODS["ModelInfer"]
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        reply: inference.ModelInferResponse = call(encode_request(request), metadata=metadata, timeout=20)
        return reply


@pytest.mark.slow
@pytest.mark.parametrize("front", at_hand())
def test_one_trace_from_the_caller_through_agent_and_gateway(front: str, tmp_path: Path) -> None:
    request = InferenceRequest("simple", INPUTS, "2", "r-1")
    with collecting() as collector, ExitStack() as stack:
        settings = {"otlp_endpoint": collector.url, "grpc_front": front}
        gateway = stack.enter_context(serving_models(tmp_path, **settings))
        (tmp_path / "agent").mkdir()
        agent = stack.enter_context(agent_of(gateway, tmp_path / "agent", **settings))
        reply = over_grpc(agent, request, ("traceparent", PARENT))
        assert "queue_ns" not in reply.parameters, "nobody asked for the times"
        with pytest.raises(grpc.RpcError):
            over_grpc(agent, InferenceRequest("nobody", INPUTS), ("traceparent", PARENT))
    assert collector.paths == {"/v1/traces"}
    spans = [span for span in collector.spans() if span.attributes.get("edgeward.model") == "simple"]
    by_program = {span.program: span for span in spans}
    ours, theirs = by_program["agent"], by_program["real"]
    assert (ours.trace, ours.parent) == (TRACE, CALLER)
    assert (theirs.trace, theirs.parent) == (TRACE, ours.id)
    assert ours.attributes["edgeward.request_id"] == "r-1"
    assert ours.attributes["edgeward.served_by"] == "cloud"
    assert theirs.attributes["edgeward.version"] == "2"
    stages = [span for span in collector.spans() if span.parent == theirs.id]
    assert [span.name for span in sorted(stages, key=lambda span: span.start_ns)] == ["queue", "batch", "execute"]
    for before, after in pairwise(stages):
        assert before.end_ns == after.start_ns
    assert theirs.start_ns <= stages[0].start_ns
    assert not [span for span in collector.spans() if span.parent == ours.id and span.program == "agent"]
    failed = next(span for span in collector.spans() if span.attributes.get("edgeward.model") == "nobody")
    assert failed.is_error
    assert failed.attributes["error.type"].endswith("Error")
    whole = b"".join(collector.bodies)
    assert INPUTS["INPUT0"].tobytes() not in whole, "no payloads"


def test_over_rest_and_not_sampled_where_the_caller_says_so(tmp_path: Path) -> None:
    request = InferenceRequest("simple", {name: np.asarray(x) for name, x in INPUTS.items()}, id="r-2")
    body = encode_rest(request, binary=False)
    with collecting() as collector, serving_models(tmp_path, otlp_endpoint=collector.url) as server:
        http = HttpClient(server.http, binary=False)
        for parent in (PARENT, f"00-{TRACE}-{CALLER}-00", "nonsense"):
            status, _, data = http.request("POST", "/v2/models/simple/infer", body.joined(), {"traceparent": parent})
            assert status == 200, data
        http.close()
    roots = [span for span in collector.spans() if "edgeward.model" in span.attributes]
    assert len(roots) == 2, "flag 00: the caller's trace is not recorded"
    assert {span.parent for span in roots} == {CALLER, ""}


def test_a_collector_that_is_away_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.telemetry.tracing.FLUSH_S", 0.1)
    with serving_models(tmp_path, otlp_endpoint="http://127.0.0.1:9") as server:
        assert over_grpc(server, InferenceRequest("simple", INPUTS)).model_name == "simple"


def test_without_an_endpoint_there_is_no_tracer() -> None:
    assert Controls.under(Path("unused"), 1, "off").tracer is None


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "ftp://x"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(WrongUseError, match="expected a URL such as http://127"):
        open_tracer(endpoint, "x", "1", "edge", 1.0)

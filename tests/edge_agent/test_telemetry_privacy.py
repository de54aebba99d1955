"""What a whole agent sends of what it counts: of private requests their number, of the others no text that the bundle has not."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtime.bundle.manifest import Format, ModelDescription, Task, Tensor, VariantDescription
from runtime.bundle.samples import Samples
from runtime.bundle.writing import BundleDraft, VariantDraft, write_bundle
from runtime.client import connect
from runtime.client.document import fetch_document
from runtime.wire.values import InferenceRequest
from tests.edge_agent.test_telemetry_processes import until
from tests.programs import started

MARK = b"the patient's name"
UNSEEN = b"a site nobody knew"
ROWS = 25


def echo_bundle(folder: Path) -> None:
    """[batch, 1] texts in and out, with samples that know two of them."""
    texts = [(name, TensorProto.STRING, ["batch", 1]) for name in ("site", "echo")]
    given, told = (helper.make_tensor_value_info(*text) for text in texts)
    graph = helper.make_graph([helper.make_node("Identity", ["site"], ["echo"])], "echo", [given], [told])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    known = np.array([[b"north"], [b"south"]] * 50, object)
    write_bundle(
        folder,
        BundleDraft(
            ModelDescription(
                name="echo",
                version=1,
                task=Task.GENERIC,
                inputs=(Tensor(name="site", datatype="BYTES", shape=(-1, 1)),),
                outputs=(Tensor(name="echo", datatype="BYTES", shape=(-1, 1)),),
            ),
            (
                VariantDraft(
                    VariantDescription(name="fp32", format=Format.ONNX, precision="fp32"), model.SerializeToString()
                ),
            ),
            samples=Samples({"site": known}, {"echo": known}, None),
        ),
    )


@contextmanager
def recording_gateway() -> Iterator[tuple[str, list[bytes]]]:
    """The address of something that takes every body, and what it took."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            answer = b'{"accepted": true}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def unpacked(body: bytes) -> dict[str, Any]:
    """The statistics in a body as they are counted at the gateway."""
    blob = base64.b64decode(json.loads(body)["blob"])
    told: dict[str, Any] = json.loads(zlib.decompress(blob[13:]))
    return told


@pytest.mark.slow
@pytest.mark.parametrize("is_in_rule", [True, False])
def test_a_private_text_never_leaves_and_others_only_where_the_bundle_has_them(
    tmp_path: Path, is_in_rule: bool
) -> None:
    echo_bundle(tmp_path / "echo")
    with recording_gateway() as (address, bodies):
        settings = tmp_path / "agent.toml"
        rule = '[routes.echo]\nprivacy = "local_only"\n' if is_in_rule else ""
        settings.write_text(f'models = ["{tmp_path / "echo"}"]\ngateway_http = "{address}"\n{rule}')
        with started(
            tmp_path, "agent", "run", "--grpc-port", "0", "--http-port", "0", "--config", str(settings)
        ) as agent:
            with connect(agent.grpc) as client:
                for text, asked in ((MARK, {"privacy": "local_only"}), (b"north", {}), (UNSEEN, {})):
                    for _ in range(ROWS):
                        site = np.array([[text]], object)
                        client.infer(InferenceRequest("echo", {"site": site}, parameters={} if is_in_rule else asked))
            http = agent.http.removeprefix("http://")
            told = until(lambda: fetch_document(http, "/edgeward/drift")["models"])
            assert until(lambda: fetch_document(http, "/edgeward/drift")["models"][0]["open_rows"] == 3 * ROWS), told
        # The window was still open: what may go of it left as the agent stopped.
    log = (tmp_path / "agent.log").read_text()
    if is_in_rule:
        assert bodies == [], log
        return
    (statistics,) = [unpacked(body) for body in bodies]
    assert statistics["rows"] == 2 * ROWS, log
    assert json.loads(bodies[0])["private_rows"] == ROWS, "how many there were, and nothing else of them"
    for feature in statistics["features"].values():
        assert feature["items"] == [["north", ROWS, ROWS]]
        assert (feature["out_of_schema"], feature["blind"]) == (ROWS, ROWS)
    sent = json.dumps(statistics).encode() + b"".join(bodies)
    assert MARK not in sent
    assert UNSEEN not in sent

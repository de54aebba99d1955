"""Triton's unmodified clients in a process of their own, which has never heard of us, on everything they ask."""

import subprocess
import sys

import pytest

from tests.runtime.serving.threaded import PATIENCE_S, Threaded

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc,http] is not installed")
pytest.importorskip("tritonclient.http", reason="tritonclient[grpc,http] is not installed")

PROGRAM = """
import sys
import numpy as np
import tritonclient.grpc as g
import tritonclient.http as h

first = np.arange(32, dtype=np.int32).reshape(2, 16)

def use(module, client, **infer_options):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("add") and client.is_model_ready("add", "1") and not client.is_model_ready("nobody")
    client.get_server_metadata()
    client.get_model_metadata("add")
    client.get_model_config("add")
    index = client.get_model_repository_index()
    assert len(index if module is h else index.models) == 7
    client.load_model("add")
    client.load_model("add", config="{}", files={"file:1/model.onnx": b"bytes"})
    client.unload_model("add")
    inputs = [module.InferInput(name, [2, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    inputs[0].set_data_from_numpy(first)
    inputs[1].set_data_from_numpy(first)
    for outputs in (None, [module.InferRequestedOutput("OUTPUT0")]):
        result = client.infer("add", inputs, outputs=outputs, **infer_options)
        assert np.array_equal(result.as_numpy("OUTPUT0"), first * 2)
        assert (result.as_numpy("OUTPUT1") is None) is (outputs is not None)
    try:
        client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 64)
    except module.InferenceServerException as error:
        assert "CUDA shared memory is off" in error.message() or "expected the 64 of" in error.message(), error
    else:
        raise AssertionError("CUDA shared memory was registered")
    return inputs

with g.InferenceServerClient(sys.argv[1]) as client:
    inputs = use(g, client, compression_algorithm="gzip")
    import queue
    replies = queue.Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    for request_id in "abc":
        client.async_stream_infer("add" if request_id != "b" else "nobody", inputs, request_id=request_id)
    client.stop_stream()
    got = [replies.get(timeout=20) for _ in range(3)]
    assert [error is None for _, error in got] == [True, False, True], got
    assert [r.get_response().id for r, error in got if error is None] == ["a", "c"]

for algorithm in (None, "gzip", "deflate"):
    with h.InferenceServerClient(sys.argv[2]) as client:
        use(h, client, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
assert not any(name.split(".")[0] in ("runtime", "protos") for name in sys.modules)
print("fine")
"""


@pytest.mark.slow
def test_everything_that_tritons_clients_ask(server: Threaded) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, server.grpc, server.http],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr

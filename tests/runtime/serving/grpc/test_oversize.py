"""Messages that are too large. Alone in its file: where another server of grpcio's is in the process, its loop takes events of
this one's, and what gRPC says of a call may come in another order."""

import time

import grpc
import numpy as np
import pytest

from tests.runtime.serving.clients import Call, grpc_call, infer_message, outcome_of
from tests.runtime.serving.grpc.test_server import ROW, errors_told, refused
from tests.runtime.serving.threaded import PATIENCE_S, Threaded, serving


def test_an_oversize_message_is_refused_and_the_next_one_served(front: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(max_message_bytes=10_000, grpc_front=front) as server, grpc.insecure_channel(server.grpc) as channel:
        packed = [grpc.Compression.Gzip] if front == "native" else [grpc.Compression.Gzip, grpc.Compression.Deflate]
        for compression in (None, *packed):  # 10 MB of zeros are 10 kB on the wire
            large = infer_message(Call("echo", {"x": np.zeros((1, 10_000_000), dtype=np.uint8)}))
            code, text = refused(lambda: grpc_call(channel, "ModelInfer", large, compression=compression))  # noqa: B023
            assert code == "RESOURCE_EXHAUSTED"
            assert "larger than max" in text or "unfolds to more than" in text
        assert outcome_of(grpc_call(channel, "ModelInfer", infer_message(Call("echo", ROW)))).status == "OK"
        wait_for_errors(server, {"PayloadTooLargeError": 1 + len(packed)})
        assert not caplog.records, "a caller's mistake is no error of the server's"


def wait_for_errors(server: Threaded, counts: dict[str, float]) -> None:
    """grpcio refuses in its core, and only then tells the server that counts."""
    end = time.monotonic() + PATIENCE_S
    while (told := errors_told(server)) != counts:
        assert time.monotonic() < end, f"{told}, never {counts}"
        time.sleep(0.02)

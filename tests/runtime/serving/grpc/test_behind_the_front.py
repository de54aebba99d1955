"""Calls that the native front hands on to grpcio behind it, of all clients together."""

from contextlib import ExitStack

import grpc
import pytest

from protos import health, inference
from tests.runtime.serving.threaded import PATIENCE_S, serving

pytest.importorskip("pygrpc_native", reason="the native gRPC front is not installed")
pytestmark = pytest.mark.slow
EACH = 600
"""Fewer than one client may have open; of two, more than one connection to the server behind would carry."""


def test_open_streams_of_some_clients_keep_no_other_waiting() -> None:
    with serving(grpc_front="native") as here, ExitStack() as stack:

        def channel() -> grpc.Channel:
            alone = [("grpc.use_local_subchannel_pool", 1)]
            return stack.enter_context(grpc.insecure_channel(here.grpc, options=alone))

        watched = []
        for other in (channel(), channel()):
            watch = other.unary_stream(
                f"/{health.SERVICE}/Watch",
                request_serializer=health.HealthCheckRequest.SerializeToString,
                response_deserializer=health.HealthCheckResponse.FromString,
            )
            watched += [watch(health.HealthCheckRequest(), timeout=10 * PATIENCE_S) for _ in range(EACH)]
        for one in watched:
            assert next(one).status == health.HealthCheckResponse.SERVING
        ask = channel().unary_unary(
            inference.METHODS["ServerLive"].path,
            request_serializer=inference.ServerLiveRequest.SerializeToString,
            response_deserializer=inference.ServerLiveResponse.FromString,
        )
        assert ask(inference.ServerLiveRequest(), timeout=PATIENCE_S).live
        for one in watched:
            one.cancel()

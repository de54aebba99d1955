"""health.proto is the standard gRPC health service: its bytes and its paths."""

from protos import health


def test_replies_have_the_standard_bytes() -> None:
    statuses = health.HealthCheckResponse.ServingStatus
    assert dict(statuses.items()) == {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2, "SERVICE_UNKNOWN": 3}
    assert health.HealthCheckRequest(service="m").SerializeToString() == b"\x0a\x01m"
    serving = health.HealthCheckResponse(status=statuses.SERVING)
    assert serving.SerializeToString() == b"\x08\x01"
    every = health.HealthListResponse(statuses={"m": serving})
    assert every.SerializeToString() == b"\x0a\x07\x0a\x01m\x12\x02\x08\x01"


def test_methods_have_the_standard_paths_and_kinds() -> None:
    kinds = {m.path: (m.client_streaming, m.server_streaming) for m in health.METHODS.values()}
    assert kinds == {
        "/grpc.health.v1.Health/Check": (False, False),
        "/grpc.health.v1.Health/List": (False, False),
        "/grpc.health.v1.Health/Watch": (False, True),
    }

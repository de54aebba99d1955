"""How channels behave: what image tensors and cut networks need."""

from runtime.client.address import Protocol, parse_address
from runtime.client.channel import options_of


def test_a_channel_retries_images_notices_a_cut_network_and_reconnects_soon() -> None:
    options = dict(options_of(parse_address("gateway.example:443", Protocol.GRPC)))
    image_bytes = 224 * 224 * 3 * 4
    assert options["grpc.per_rpc_retry_buffer_size"] > image_bytes
    assert options["grpc.max_send_message_length"] > image_bytes
    assert options["grpc.keepalive_time_ms"] + options["grpc.keepalive_timeout_ms"] <= 70_000
    assert options["grpc.initial_reconnect_backoff_ms"] <= 100
    assert options["grpc.max_reconnect_backoff_ms"] <= 2_000

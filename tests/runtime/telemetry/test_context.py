"""W3C's traceparent, as it may come in: https://www.w3.org/TR/trace-context/#traceparent-header"""

import pytest

from runtime.telemetry.context import parse_traceparent, traceparent_in

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "value", [GOOD, GOOD.encode(), "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later"]
)
def test_valid_ones_pass(value: str | bytes) -> None:
    assert parse_traceparent(value) == (value if isinstance(value, str) else value.decode())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        GOOD.upper(),
        GOOD + "\n",
        GOOD + "-" + "x" * 600,
        b"\xff\xfe",
    ],
)
def test_others_are_as_good_as_none(value: str | bytes | None) -> None:
    assert parse_traceparent(value) is None


def test_metadata() -> None:
    assert traceparent_in((("a", "b"), ("traceparent", GOOD))) == GOOD
    assert traceparent_in(()) is None
    assert traceparent_in(None) is None

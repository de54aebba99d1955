"""JSON lines: what is in them, and what must never be."""

import json
import logging
import subprocess
import sys

import pytest

from runtime.telemetry.context import RequestMark, request_mark, traceparent
from runtime.telemetry.json_logs import MAX_CHARACTERS, JsonFormatter

KEY = "a-key-of-our-own-0123456789"


def line(message: str, *arguments: object, **more: object) -> dict[str, object]:
    record = logging.LogRecord("runtime.x", logging.WARNING, __file__, 1, message, arguments, None)
    record.__dict__.update(more)
    told: dict[str, object] = json.loads(JsonFormatter([KEY]).format(record))
    return told


def test_a_line_has_time_level_logger_and_message() -> None:
    told = line("model %s fell", "digits")
    assert set(told) == {"time", "level", "logger", "message"}
    assert (told["level"], told["logger"], told["message"]) == ("warning", "runtime.x", "model digits fell")
    assert str(told["time"]).endswith("+00:00")


@pytest.mark.parametrize(
    "text",
    [
        f"the gateway refused {KEY}",
        "authorization: Bearer edgeward_Qm9vaG9vLXRoaXMtaXMtYS1rZXktMTIzNDU2Nzg5MA",
        "edgeward_admin_Qm9vaG9vLXRoaXMtaXMtYS1rZXktMTIzNDU2Nzg5MA is wrong",
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",
        "bearer 0123456789abcdef",
        "postgresql://user:hunter2-secret@host/db refused",
    ],
)
def test_secrets_are_redacted_in_messages_arguments_and_tracebacks(text: str) -> None:
    secrets = (KEY, "Qm9vaG9v", "dXNlcjpwYXNzd29yZA", "0123456789abcdef", "hunter2-secret")
    for told in (line(text), line("%s", text)):
        assert not any(secret in json.dumps(told) for secret in secrets), told
        assert "[redacted]" in str(told["message"])
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("runtime", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    whole = JsonFormatter([KEY]).format(record)
    assert not any(secret in whole for secret in secrets)
    assert "ValueError" in whole


def test_what_is_attached_to_a_record_stays_out() -> None:
    assert "payload" not in line("answered", payload=[1.0, 2.0], inputs={"x": 1})


def test_a_line_within_a_request_names_it_and_its_trace() -> None:
    mark = request_mark.set(RequestMark("r-17", "digits"))
    parent = traceparent.set("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    try:
        told = line("slow")
    finally:
        request_mark.reset(mark)
        traceparent.reset(parent)
    assert (told["request_id"], told["model"]) == ("r-17", "digits")
    assert told["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_line_stays_one_line_and_short() -> None:
    told = JsonFormatter().format(logging.LogRecord("x", 20, "", 1, "a\nb" * MAX_CHARACTERS, (), None))
    assert "\n" not in told
    assert len(told) < 2 * MAX_CHARACTERS


def test_a_program_logs_that_way_and_puts_logging_back() -> None:
    code = """
import logging
from runtime.serving.log_format import LogFormat, logging_as
with logging_as(LogFormat.JSON, ["the-secret-of-this-test"]):
    logging.getLogger("runtime.y").info("told the-secret-of-this-test")
    logging.getLogger("other").info("not shown")
assert not logging.getLogger().handlers
logging.getLogger("runtime.y").info("not shown either")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    (only,) = done.stderr.splitlines()
    assert json.loads(only)["message"] == "told [redacted]"

"""LogSettings change what this process logs, on both protocols, and put it back."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.errors import InvalidInputError, UnsupportedError
from runtime.serving.log_settings import LogSettings
from tests.runtime.serving.threaded import Threaded

NAME = "test_log_settings_of_a_server"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a handler of that logger writes."""
    logger, written = logging.getLogger(NAME), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def said(lines: io.StringIO) -> list[str]:
    lines.truncate(0)
    lines.seek(0)
    child = logging.getLogger(f"{NAME}.child")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        child.log(level, "a line")
    return lines.getvalue().split()


def test_every_severity_has_a_switch_of_its_own(lines: io.StringIO) -> None:
    settings = LogSettings((NAME,))
    assert settings.values() == {
        "log_file": "",
        "log_format": "default",
        "log_info": False,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
    }
    assert said(lines) == ["WARNING", "ERROR", "CRITICAL"]
    settings.update({"log_info": True, "log_warning": False})
    assert said(lines) == ["INFO", "ERROR", "CRITICAL"]
    settings.update({"log_verbose_level": 2, "log_error": False})
    assert said(lines) == ["DEBUG", "INFO"]
    settings.update({"log_verbose_level": 0, "log_info": False})
    assert said(lines) == []
    settings.close()
    assert said(lines) == ["WARNING", "ERROR", "CRITICAL"]


def test_a_process_that_set_up_no_logging_still_shows_what_is_on(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{NAME}_alone"
    logging.getLogger(name).propagate = False
    settings = LogSettings((name,))
    settings.update({"log_info": True})
    logging.getLogger(name).info("a line for %s", "people")
    settings.close()
    logging.getLogger(name).warning("another")
    assert "INFO test_log_settings_of_a_server_alone: a line for people" in capsys.readouterr().err
    assert logging.getLogger(name).handlers == []


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"log_info": 1}, InvalidInputError, "'log_info' is 1; expected true or false"),
        ({"log_verbose_level": -1}, InvalidInputError, "is -1; expected 0"),
        ({"log_verbose_level": True}, InvalidInputError, "is True; expected 0"),
        ({"log_everything": True}, InvalidInputError, "unknown log setting 'log_everything'; known: log_info"),
        ({"log_file": "/etc/passwd"}, UnsupportedError, "'log_file' cannot be changed over the network"),
        ({"log_format": "ISO8601"}, UnsupportedError, "'log_format' cannot be changed"),
    ],
)
def test_what_cannot_be_set_is_named_and_nothing_changes(
    lines: io.StringIO, changes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    settings = LogSettings((NAME,))
    before = settings.values()
    with pytest.raises(kind, match=words):
        settings.update({"log_warning": False, **changes})
    assert settings.values() == before
    assert said(lines) == ["WARNING", "ERROR", "CRITICAL"]


def test_tritons_clients_read_and_change_them(server: Threaded) -> None:
    grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc,http] is not installed")
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[grpc,http] is not installed")
    with grpc.InferenceServerClient(server.grpc) as by_grpc, http.InferenceServerClient(server.http) as by_http:
        assert "logging" in by_http.get_server_metadata()["extensions"]
        try:
            changed = by_grpc.update_log_settings({"log_verbose_level": 3, "log_info": True}, as_json=True)
            assert changed["settings"]["log_verbose_level"] == {"uint32_param": 3}
            assert logging.getLogger("runtime").level == logging.DEBUG
            told = by_http.get_log_settings()
            assert (told["log_verbose_level"], told["log_info"], told["log_file"]) == (3, True, "")
            assert by_http.update_log_settings({"log_verbose_level": 0})["log_verbose_level"] == 0
            assert logging.getLogger("runtime").level == logging.INFO
            for client, module in ((by_grpc, grpc), (by_http, http)):
                with pytest.raises(module.InferenceServerException, match="cannot be changed over the network"):
                    client.update_log_settings({"log_file": "x"})
        finally:
            by_http.update_log_settings({"log_info": False, "log_verbose_level": 0})
    assert json.dumps(told)

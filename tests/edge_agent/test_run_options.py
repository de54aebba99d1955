"""The options of `agent run` and `agent install`: one list, by the settings' names."""

from pathlib import Path

import pytest
import typer

from edge_agent import cli
from edge_agent.run_options import CONFIG, RUN_OPTIONS, as_words
from edge_agent.settings import AgentSettings
from runtime.config import flag_of

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def test_every_option_is_a_setting() -> None:
    assert set(RUN_OPTIONS) - {CONFIG} <= set(AgentSettings.model_fields)


@pytest.mark.parametrize("command", ["run", "install"])
def test_both_commands_take_all_of_them_under_the_names_that_errors_use(command: str) -> None:
    by_name = {parameter.name: parameter.opts for parameter in COMMANDS[command].params}
    for name in RUN_OPTIONS:
        assert by_name[name] == (["models"] if name == "models" else [flag_of(name)])


def test_the_help_begins_with_what_a_newcomer_needs() -> None:
    expected = ["run", "status", "install", "uninstall", "submit", "jobs", "cancel", "sync", "replay"]
    assert list(COMMANDS) == expected


def test_the_first_line_of_sync_says_that_it_does_not_end() -> None:
    assert "until Ctrl-C" in COMMANDS["sync"].help.splitlines()[0]


@pytest.mark.parametrize("command", ["status", "submit", "jobs", "cancel", "sync"])
def test_who_only_asks_listens_nowhere(command: str) -> None:
    helps = {parameter.name: parameter.help for parameter in COMMANDS[command].params}
    assert helps["host"] == "Address that the agent listens on (127.0.0.1)."
    assert helps["http_port"] == "Its port of REST (8000)."


def test_words_mean_the_same_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").touch()
    given = {
        "models": ["digits", "net.onnx"],
        "gateway": ["a:1", "b:2"],
        "tls_cert": Path("cert.pem"),
        "default_deadline_s": 2.5,
        "http_port": 0,
        CONFIG: Path("/etc/agent.toml"),
    }
    assert as_words(given) == (
        *("digits", str(tmp_path / "net.onnx"), "--gateway", "a:1", "--gateway", "b:2"),
        *("--tls-cert", str(tmp_path / "cert.pem"), "--default-deadline", "2.5", "--http-port", "0"),
        *("--config", "/etc/agent.toml"),
    )

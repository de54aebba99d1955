"""What every command says of itself: an example that holds, and a help that an ordinary terminal shows whole."""

import shlex
from collections.abc import Iterator

import click
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import edgeward

APP = edgeward._app(edgeward._COMMANDS)
NARROW = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}


def commands(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below `group` that is no group itself, with the words that it is called by."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = [pytest.param(path, command, id=" ".join(path)) for path, command in commands(get_command(APP))]


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_the_example_is_one_that_the_command_takes(path: tuple[str, ...], command: click.Command) -> None:
    assert command.epilog is not None
    told = command.epilog.rpartition("Example: ")[2].partition(" > ")[0]
    words = shlex.split(told)
    assert words[: len(path) + 1] == ["edgeward", *path]
    with command.make_context(path[-1], words[len(path) + 1 :]) as context:
        assert context.args == []


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_the_help_shows_every_flag_whole_on_a_terminal_of_80_columns(
    path: tuple[str, ...], command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    shown = CliRunner().invoke(APP, [*path, "--help"], env=NARROW).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    told = set(shown.replace(",", " ").split())
    flags = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {name for name in flags if name.startswith("--")} <= told

"""The folder of results: each file is told of, with a command that is there, and says where it was measured."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.cli import app
from benchmarks.serving.results import Results

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
FILES = sorted(file for file in RESULTS.iterdir() if file.name != "README.md")


def told() -> dict[str, str]:
    """By the stem of a file, the command that makes it."""
    found = {}
    for line in (RESULTS / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| file"):
            names, command, _ = (cell.strip() for cell in line.strip("|").split("|", 2))
            found |= dict.fromkeys(names.split(", "), command)
    return found


def test_every_file_is_told_of_and_every_row_has_a_file() -> None:
    assert {file.stem for file in FILES} == set(told())


@pytest.mark.parametrize("command", sorted(set(told().values())))
def test_the_commands_are_there(command: str) -> None:
    texts = re.findall(r"`([^`]+)`", command)
    assert texts
    for text in texts:
        words = text.split()
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) is not None, text
        elif words[:2] == ["edgeward", "bench"]:
            assert words[2] in {each.callback.__name__ for each in app.registered_commands if each.callback}, text
        else:
            assert text.startswith((".", "scripts/")), text


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".json"], ids=lambda file: file.stem)
def test_figures_name_their_hardware_and_commit(file: Path) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    for run in document.get("runs", []) if "environment" not in document else [document]:
        environment = run["environment"]
        assert environment["cpu"]
        assert environment["hardware"]["cores"]["threads"]
        assert environment["commit"]


def test_the_tables_of_servers_are_those_of_their_figures() -> None:
    """Kept pages are made again when the words of a table change."""
    for name in ("serving-shared", "serving-xeon", "peers-shared-2-core"):
        told = Results.from_dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))
        assert (RESULTS / f"{name}.md").read_text(encoding="utf-8") == told.to_markdown(), name

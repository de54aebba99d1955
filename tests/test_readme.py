"""What the README says: figures stand in the results that it names, commands and Python hold, and all of it is seen whole."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from typer.main import get_command

import edgeward

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"^## How fast$(.*?)^## ", re.MULTILINE | re.DOTALL)


def tables() -> list[tuple[str, list[list[str]]]]:
    """The tables of the section: the results each names, and its rows of cells without the heads."""
    (section,) = SECTION.findall((ROOT / "README.md").read_text())
    found: list[tuple[str, list[list[str]]]] = []
    for paragraph in section.split("\n\n"):
        if named := re.search(r"\((benchmarks/results/[^)]*\.md)\), made by", paragraph):
            found.append((named[1], []))
        elif paragraph.startswith("|"):
            found[-1][1].extend(cells(line) for line in paragraph.splitlines()[2:])
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


@pytest.mark.parametrize(("source", "rows"), tables(), ids=lambda value: value if isinstance(value, str) else "")
def test_figures_come_from_the_results(source: str, rows: list[list[str]]) -> None:
    written = [cells(line) for line in (ROOT / source).read_text().splitlines() if line.startswith("|")]
    assert rows
    for name, *figures in rows:
        told = [cell for row in written if row[0] == name for cell in row]
        for figure in figures:
            assert any(cell == figure or cell.startswith(f"{figure} (") for cell in told), (name, figure)


def test_what_the_demo_prints_is_of_the_one_that_is_kept() -> None:
    readme, demo = (ROOT / "README.md").read_text(), _even((ROOT / "benchmarks/results/demo.txt").read_text())
    block = readme.partition("in small part (")[2].partition("\n## ")[0]
    shown = [_even(line) for line in block.splitlines() if line.startswith("    ")]
    assert len(shown) >= 5
    assert [line for line in shown if line not in demo] == []
    warnings = re.findall(r"warning: .*? of their median", demo)
    assert len(warnings) == demo.count("warning: "), "each in words that are looked for below"
    assert [warning for warning in warnings if warning not in _even(block)] == [], (
        "what the demo doubts, is said here too"
    )
    told = re.search(
        r"costs (\S+) ms in process at the median, and (\S+) ms through the agent over gRPC", _even(readme)
    )
    assert told is not None
    for name, figure in zip(("in-process", "agent gRPC"), told.groups(), strict=True):
        (kept,) = re.findall(rf"{name} (\d+\.\d+) ", demo)
        digits = len(figure.partition(".")[2])
        assert f"{float(kept):.{digits}f}" == figure, (name, kept)


def test_tables_of_speed_name_their_hardware() -> None:
    text = (ROOT / "README.md").read_text()
    (section,) = SECTION.findall(text)
    demo = text.partition("From a\n[kept run]")[2].partition("\n\n")[0]
    figure = text.partition("An honest figure, ")[2].partition(": ")[0]
    named = [part for part in section.split("\n\n") if "made by" in part]
    assert len(named) == len(tables())
    for sentence in (demo, figure, *named):
        assert re.search(r"AMD EPYC|NVIDIA H100", sentence), sentence
        assert re.search(r"\d+ cores|two cores", sentence), sentence


def code_lines() -> list[str]:
    """The lines of code, indented by four or between fences, as a page shows them."""
    lines, is_fenced = [], False
    for line in (ROOT / "README.md").read_text().splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            lines.append(line.removeprefix("    "))
    return lines


def commands() -> Iterator[str]:
    """Every `edgeward ...` of the code, without what is said beside it; "run|status" is one of each."""
    for line in code_lines():
        told = re.split(r"  +| > ", line)[0]
        if told.startswith("edgeward "):
            choices = [[word] if "'" in told else word.split("|") for word in told.split(" ")]
            yield from (" ".join(words) for words in product(*choices))


def test_code_needs_no_scroll_bar() -> None:
    assert [line for line in code_lines() if len(line) > 100] == []


@pytest.mark.parametrize("told", sorted(set(commands())))
def test_commands_are_ones_that_there_are(told: str) -> None:
    command, words = get_command(edgeward._app(edgeward._COMMANDS)), shlex.split(told)[1:]
    while words and words[0] in (below := getattr(command, "commands", {})):
        command = below[words.pop(0)]
    is_list_of_commands = not words  # what it takes is not said
    if not is_list_of_commands:
        with command.make_context(told, words) as context:
            assert context.args == []
    assert not hasattr(command, "commands") or is_list_of_commands
    assert command.name in told.split()


def test_files_named_in_the_text_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    files = re.findall(r"(?:\]\(|[\s`])((?:runtime|benchmarks|protos|scripts)/[\w./-]+)", text)
    assert len(files) > 5
    assert [file for file in files if not (ROOT / file.rstrip(".")).exists()] == []


@pytest.mark.slow
def test_the_ten_lines_print_what_is_said_of_them(calibrated_home: Path) -> None:
    text = (ROOT / "README.md").read_text()
    first, *others = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in others:
        compile(block, "README.md", "exec")
    environment = {**os.environ, "EDGEWARD_HOME": str(calibrated_home)}
    command = [sys.executable, "-c", first]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert len(first.splitlines()) <= 10
    assert done.stdout.startswith("1 by ")


def _even(text: str) -> str:
    return " ".join(text.split())


def test_the_two_commands_that_do_all_the_set_up_are_named_and_nothing_takes_their_folders() -> None:
    first = (ROOT / "README.md").read_text().partition("\n```")[0]
    assert "    scripts/demo " in first
    assert "    scripts/test " in first
    assert "venv .venv" not in first, "scripts/demo makes no environment anew that somebody else made"

"""What the README says of speed stands in the results that it names."""

import re
from pathlib import Path

import pytest

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


def test_the_first_screen_is_of_the_demo_that_is_kept() -> None:
    readme, demo = (ROOT / "README.md").read_text(), _even((ROOT / "benchmarks/results/demo.txt").read_text())
    block = readme.partition("What the demo prints, in small part")[2].partition("Ten lines of Python:")[0]
    shown = [_even(line) for line in block.splitlines() if line.startswith("    ")]
    assert len(shown) >= 5
    assert [line for line in shown if line not in demo] == []
    warnings = re.findall(r"warning: .*? of their median", demo)
    assert warnings
    assert [warning for warning in warnings if warning not in _even(block)] == [], (
        "what the demo doubts, is said here too"
    )
    told = re.search(r"costs (\S+) ms in process at the median, and (\S+) ms through the agent over gRPC", readme)
    assert told is not None
    for name, figure in zip(("in-process", "agent gRPC"), told.groups(), strict=True):
        (kept,) = re.findall(rf"{name} (\d+\.\d+) ", demo)
        digits = len(figure.partition(".")[2])
        assert f"{float(kept):.{digits}f}" == figure, (name, kept)


def test_tables_of_speed_name_their_hardware() -> None:
    text = (ROOT / "README.md").read_text()
    (section,) = SECTION.findall(text)
    first = text.partition("What the demo prints, in small part")[2].partition("\n\n")[0]
    named = [part for part in section.split("\n\n") if "made by" in part]
    assert len(named) == len(tables())
    for sentence in (first, *named):
        assert re.search(r"AMD EPYC|NVIDIA H100", sentence), sentence
        assert re.search(r"\d+ cores|two cores", sentence), sentence


def _even(text: str) -> str:
    return " ".join(text.split())
